// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"context"

	"github.com/setun-compute/setun/internal/canon"
)

// Halves is what clustering rows with k = 2 gives.
type Halves struct {
	Labels     []int32   // 0 or 1 a row
	Centroids  []float32 // 2*dim
	Inertia    float64
	Iterations int
}

// Bisect clusters rows with k = 2: from initial (2*dim values), or by k-means++ from seed when initial is nil. The result is good until the next call.
type Bisect func(ctx context.Context, rows, initial []float32, seed uint64, maxIter int) (Halves, error)

const (
	// A split is tried out on a part of the cluster's rows first: tries runs of 2-means from different seeds on at most trainRows rows, the best of
	// which starts the run over all rows. Equally many other rows tell whether the halves are apart.
	tries       = 4
	trainRows   = 1024
	trainRounds = 10
)

// leaf is a cluster of the path: the rows order[first:end], and how it would be split.
type leaf struct {
	first, end int
	moments
	mid        int // rows order[first:mid] and order[mid:end] are its halves; 0: it cannot be split
	halves     [2]moments
	gain       float64 // by how much the split lowers the inertia
	separation Separation
}

// split is one step of the path: leaf number column is replaced by its left half, the right one becomes a new leaf.
type split struct {
	column, mid int
	halves      [2]moments
	separation  Separation
}

// path is a bisecting k-means run: Steinbach, Karypis, Kumar, A comparison of document clustering techniques (2000), always splitting
// the cluster whose split lowers the inertia most.
type path struct {
	ctx    context.Context
	points []float32
	n, dim int
	o      Options
	bisect Bisect

	order  []int32 // row numbers; each leaf owns a range
	moved  []int32 // scratch of partition
	rows   []float32
	root   moments
	leaves []leaf
	splits []split
	visits int64
	tried  uint64
}

// grow splits until there are o.MaxK clusters, or none that can be split. level is called with 1, 2, … leaves.
func (p *path) grow(level func()) error {
	p.order = make([]int32, p.n)
	for i := range p.order {
		p.order[i] = int32(i)
	}
	p.leaves = append(p.leaves, leaf{end: p.n, moments: p.root})
	untried := []int{0}
	for level(); len(p.leaves) < p.o.MaxK; level() {
		for _, i := range untried { // the last two leaves are never tried
			if err := p.try(&p.leaves[i]); err != nil {
				return err
			}
		}
		best := 0
		for i := range p.leaves { // ties go to the lower number
			if p.leaves[i].gain > p.leaves[best].gain {
				best = i
			}
		}
		l := p.leaves[best]
		if !(l.gain > 0) {
			return nil
		}
		p.splits = append(p.splits, split{column: best, mid: l.mid, halves: l.halves, separation: l.separation})
		p.leaves[best] = leaf{first: l.first, end: l.mid, moments: l.halves[0]}
		p.leaves = append(p.leaves, leaf{first: l.mid, end: l.end, moments: l.halves[1]})
		untried = []int{best, len(p.leaves) - 1}
	}
	return nil
}

// try finds how a leaf would be split, and puts the rows of its halves together.
func (p *path) try(l *leaf) error {
	n := l.end - l.first
	if n < 2 || l.sse == 0 {
		return nil
	}
	rows := p.gather(p.order[l.first:l.end])
	seed := canon.Choose(p.o.Seed, p.tried, 1<<63)
	p.tried++
	initial, err := p.start(l, rows, seed)
	if err != nil {
		return err
	}
	h, err := p.bisect(p.ctx, rows, initial, seed, p.o.MaxIter)
	if err != nil {
		return err
	}
	p.visits += int64(n) * int64(h.Iterations)
	if l.halves, err = measure(p.ctx, rows, p.dim, h.Labels, h.Centroids); err != nil {
		return err
	}
	if l.halves[0].n > 0 && l.halves[1].n > 0 {
		l.gain = l.sse - (l.halves[0].sse + l.halves[1].sse)
		l.mid = l.first + l.halves[0].n
		p.partition(p.order[l.first:l.end], h.Labels)
	}
	return nil
}

// start tries 2-means on a part of the rows and returns the best centroids, or nil for few rows. It fills in the leaf's separation.
func (p *path) start(l *leaf, rows []float32, seed uint64) ([]float32, error) {
	n := len(rows) / p.dim
	if n < fewRows {
		return nil, nil
	}
	train, test := p.draw(rows, min(n/2, trainRows), seed)
	var best []float32
	var least float64
	for t := range uint64(tries) {
		h, err := p.bisect(p.ctx, train, nil, seed+t, trainRounds)
		if err != nil {
			return nil, err
		}
		p.visits += int64(len(train)/p.dim) * int64(h.Iterations)
		if best == nil || h.Inertia < least {
			best, least = append(best[:0], h.Centroids...), h.Inertia
		}
	}
	l.separation = separate(test, best, p.dim)
	return best, nil
}

// draw takes two different rows, at random, from each of m equal ranges of rows.
func (p *path) draw(rows []float32, m int, seed uint64) (first, second []float32) {
	n := len(rows) / p.dim
	first, second = make([]float32, 0, m*p.dim), make([]float32, 0, m*p.dim)
	for i := range m {
		low, high := i*n/m, (i+1)*n/m
		a := int(canon.Choose(seed, uint64(2*i), uint64(high-low)))
		b := int(canon.Choose(seed, uint64(2*i+1), uint64(high-low-1)))
		if b >= a {
			b++
		}
		first = append(first, rows[(low+a)*p.dim:][:p.dim]...)
		second = append(second, rows[(low+b)*p.dim:][:p.dim]...)
	}
	return first, second
}

// gather copies rows next to each other; all of them are there already. Its memory fits the largest leaf after the first split, so any later one.
func (p *path) gather(order []int32) []float32 {
	if len(order) == p.n {
		return p.points
	}
	if p.rows == nil {
		most := len(order)
		for _, l := range p.leaves {
			most = max(most, l.end-l.first)
		}
		p.rows = make([]float32, 0, most*p.dim)
	}
	p.rows = p.rows[:0]
	for _, i := range order {
		p.rows = append(p.rows, p.points[int(i)*p.dim:][:p.dim]...)
	}
	return p.rows
}

// partition puts the rows of label 0 before those of label 1 and keeps their order otherwise.
func (p *path) partition(order, labels []int32) {
	p.moved = p.moved[:0]
	left := 0
	for i, row := range order {
		if labels[i] == 0 {
			order[left] = row
			left++
		} else {
			p.moved = append(p.moved, row)
		}
	}
	copy(order[left:], p.moved)
}
