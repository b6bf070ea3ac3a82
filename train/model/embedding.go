// SPDX-License-Identifier: Apache-2.0

package model

// embedForward writes the sum of a token's and its position's vector for each row; sequences have length tokens, the first of which stands at position past.
type embedForward struct {
	cols, length, past int
	tokens             []int32
	token, position    []float32 // the tables
	y                  []float32
}

func (k *embedForward) rows(lo, hi int) {
	c := k.cols
	for r := lo; r < hi; r++ {
		y := k.y[r*c:][:c]
		t, p := k.token[int(k.tokens[r])*c:][:len(y)], k.position[(k.past+r%k.length)*c:][:len(y)]
		for i := range y {
			y[i] = t[i] + p[i]
		}
	}
}

// embedBackward adds the gradients of the rows to those of the tables. Its rows are columns of the tables, because several tokens share a row of them: each column is added up over the tokens in rising order.
type embedBackward struct {
	cols, length    int
	tokens          []int32
	token, position []float32 // gradients of the tables
	dy              []float32
}

// columnGrain is how many columns a chunk of embedBackward has: a cache line.
const columnGrain = 16

func (k *embedBackward) rows(lo, hi int) {
	c, at := k.cols, 0
	for r, t := range k.tokens {
		dy := k.dy[r*c+lo : r*c+hi]
		into, beside := k.token[int(t)*c+lo:][:len(dy)], k.position[at*c+lo:][:len(dy)]
		for i, v := range dy {
			into[i] += v
			beside[i] += v
		}
		if at++; at == k.length {
			at = 0
		}
	}
}
