// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
)

// What fits have on the device together at most: values of points, and fits, each of which is a goroutine.
const (
	gatheredValues = 1 << 25
	gatheredFits   = 4096
)

// KMeansMany runs many fits: a step of all of them is one call of the library. Where the device has not enough memory for all it has some after the others.
func (b *Backend) KMeansMany(ctx context.Context, k backends.Kernel, a *backends.KMeansMany) error {
	a.Failed = -1
	if !k.Many {
		return &backends.Error{Op: "kmeans", Backend: b.name, Err: backends.ErrUnsupported}
	}
	most, fits := gatheredFits, a.Fits
	for done := 0; done < len(fits); {
		n, values := 1, len(fits[done].X)
		for n < most && done+n < len(fits) && values+len(fits[done+n].X) <= gatheredValues {
			values += len(fits[done+n].X)
			n++
		}
		i, err := b.gather(ctx, k, fits[done:done+n])
		switch {
		case errors.Is(err, backends.ErrMemory) && n > 1:
			most = n / 2
			continue
		case err != nil:
			if i >= 0 {
				a.Failed = done + i
			}
			return err
		}
		done += n
	}
	return nil
}

// gather runs fits that are on the device together.
func (b *Backend) gather(ctx context.Context, k backends.Kernel, fits []*backends.KMeans) (int, error) {
	l := &gathering{b: b, kernel: k, fits: fits, first: make([]int, len(fits)+1), pushed: make([][]int32, len(fits)), units: make([]*float32, len(fits)), block: newBlock(func(a *kmeansArgs) *call { return &a.call })}
	for i, a := range fits {
		l.first[i+1] = l.first[i] + a.N
	}
	rows, d := l.first[len(fits)], fits[0].D
	arrays := [...]struct {
		a      *shared
		values int
	}{{&l.points, rows * d}, {&l.labels, rows}, {&l.distance, rows}, {&l.unit, rows}}
	for _, v := range arrays {
		if v.a == &l.unit && !fits[0].Cosine {
			continue
		}
		at, err := Device{b}.Alloc(4 * int64(v.values))
		if err != nil {
			return -1, err
		}
		defer func() { _ = Device{b}.Free(at) }() // that of a device that is lost is gone already
		*v.a = shared{device: Device{b}, at: at, host: make([]byte, 4*v.values)}
	}
	return lloyd.Together(ctx, fits, l.of, l.step)
}

// gathering is what fits have in common while they are on the device.
type gathering struct {
	b      *Backend
	kernel backends.Kernel
	fits   []*backends.KMeans
	first  []int // by fit, its first row; of all rows at the end

	points, labels, distance, unit shared
	up                             bool       // the points are on the device
	units                          []*float32 // by fit, the host's array that the device has in unit
	pushed                         [][]int32  // by fit, the host's labels when it has written them

	block     *block[kmeansArgs]
	workspace []byte
	problems  []problem
	packed    packed
}

// shared is an array of all fits, one after another, on the device and where the host looks at it.
type shared struct {
	device Device
	at     backends.Address
	mu     sync.Mutex // for fits that look at the same time; steps are done while none does
	host   []byte
	stale  bool // the device has written what the host has not seen
}

func (s *shared) upload(cancel *int32) error { return s.device.upload(s.at, s.host, cancel) }

// packed are the small arrays of the fits in a step, one after another.
type packed struct {
	mean, centroids, bias, low, high []float32
	scale                            []float64
	sums, counts                     []int64
}

// each calls visit with every array and the part of a step that belongs there, n values of which are one fit's; out: those that come back. What a step has not is empty.
func (p *packed) each(s *lloyd.Step, floats func(all *[]float32, part []float32, out bool), doubles func(all *[]float64, part []float64), ints func(all *[]int64, part []int64)) {
	moves := s.Kind == lloyd.Iterate || s.Kind == lloyd.Seed
	floats(&p.mean, s.Mean, false)
	floats(&p.centroids, s.Centroids, moves)
	floats(&p.bias, s.Bias, false)
	floats(&p.low, s.Low, true)
	floats(&p.high, s.High, true)
	doubles(&p.scale, s.Scale)
	ints(&p.sums, s.Sums)
	ints(&p.counts, s.Counts)
}

func (p *packed) pack(s *lloyd.Step) {
	p.each(s, func(all *[]float32, part []float32, _ bool) { *all = append(*all, part...) },
		func(all *[]float64, part []float64) { *all = append(*all, part...) },
		func(all *[]int64, part []int64) { *all = append(*all, part...) })
}

// unpack gives the j-th fit of the step back what the library has written.
func (p *packed) unpack(s *lloyd.Step, j int) {
	p.each(s, func(all *[]float32, part []float32, out bool) {
		if out {
			copy(part, (*all)[j*len(part):])
		}
	}, func(*[]float64, []float64) {}, func(all *[]int64, part []int64) { copy(part, (*all)[j*len(part):]) })
}

func (p *packed) clear() {
	p.each(new(lloyd.Step), func(all *[]float32, _ []float32, _ bool) { *all = (*all)[:0] },
		func(all *[]float64, _ []float64) { *all = (*all)[:0] },
		func(all *[]int64, _ []int64) { *all = (*all)[:0] })
}

// part copies bytes of the array, which the device may have written, from an offset on.
func (s *shared) part(to []byte, offset int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale {
		if err := s.device.Download(s.host, s.at); err != nil { // all of it, for the other fits are about to ask
			return err
		}
		s.stale = false
	}
	copy(to, s.host[offset:])
	return nil
}

// of returns how fit i gets at what its steps have written.
func (l *gathering) of(i int) lloyd.Steps {
	a := l.fits[i]
	copy(l.points.host[4*l.first[i]*a.D:], backends.Bytes(a.X))
	pull := func(labels []int32, distance []float32) error {
		from := &l.distance
		if distance != nil && &distance[0] == l.units[i] {
			from = &l.unit
		}
		err := l.labels.part(backends.Bytes(labels), 4*l.first[i])
		if err == nil && distance != nil {
			err = from.part(backends.Bytes(distance), 4*l.first[i])
		}
		return err
	}
	return lloyd.Steps{Pull: pull, Push: func(labels []int32, _ []float32) { l.pushed[i] = labels }}
}

// bring brings up what the host has written.
func (l *gathering) bring(cancel *int32) error {
	if !l.up {
		if err := l.points.upload(cancel); err != nil {
			return err
		}
		l.up, l.points.host = true, nil
	}
	all := true
	for i, labels := range l.pushed {
		if all = all && labels != nil; labels != nil {
			copy(l.labels.host[4*l.first[i]:], backends.Bytes(labels))
		}
	}
	if all {
		clear(l.pushed)
		return l.labels.upload(cancel)
	}
	for i, labels := range l.pushed {
		if labels == nil {
			continue
		}
		if err := (Device{l.b}).upload(l.labels.at+backends.Address(4*l.first[i]), backends.Bytes(labels), cancel); err != nil {
			return err
		}
		l.pushed[i] = nil
	}
	return nil
}

// begin is the address of a list's first element, nil where there is none, though there may be room for it.
func begin[E any](s []E) *E {
	if len(s) == 0 {
		return nil
	}
	return &s[0]
}

// step does a step of the fits that wait for one of that kind.
func (l *gathering) step(kind lloyd.Kind, steps []*lloyd.Step) error {
	x := l.block
	l.packed.clear()
	l.problems = l.problems[:0]
	var any *lloyd.Step
	for i, s := range steps {
		if s == nil {
			continue
		}
		if any == nil {
			any = s
		}
		l.packed.pack(s)
		p := problem{first: int64(l.first[i]), n: int64(s.N), weightScale: s.WeightScale, limit: s.Limit, iterations: int64(s.Iterations)}
		if s.Moved {
			p.flags = moved
		}
		l.problems = append(l.problems, p)
		if kind == lloyd.Units {
			l.units[i] = unsafe.SliceData(s.Distance)
		}
	}
	cancel := flag(any.Cancel)
	if err := l.bring(cancel); err != nil {
		return err
	}
	p := &l.packed
	x.args = kmeansArgs{
		call: x.args.call, step: uint32(kind), x: (*float32)(pointer(l.points.at)), n: int64(l.first[len(l.fits)]), d: int64(any.D), k: int64(any.K),
		mean: begin(p.mean), centroids: begin(p.centroids), bias: begin(p.bias), scale: begin(p.scale),
		low: begin(p.low), high: begin(p.high), sums: begin(p.sums), counts: begin(p.counts),
		next: begin(p.centroids), seed: any.Seed, problems: unsafe.SliceData(l.problems), problemCount: int64(len(l.problems)),
	}
	x.args.cancel = cancel
	if any.Labels != nil {
		x.args.labels = (*int32)(pointer(l.labels.at))
	}
	if any.Unit != nil {
		x.args.unit = (*float32)(pointer(l.unit.at))
	}
	to := &l.distance
	if kind == lloyd.Units {
		to = &l.unit
	}
	if any.Distance != nil {
		x.args.distance = (*float32)(pointer(to.at))
	}
	if any.KeepMin {
		x.args.flags |= keepMin
	}
	rc := x.invoke(l.b, l.kernel) // asks for the size of the workspace
	if rc == statusOK {
		x.args.workspace, rc = room(&l.workspace, x.args.workspaceSize)
	}
	if rc == statusOK {
		rc = x.invoke(l.b, l.kernel)
	}
	to.stale = to.stale || any.Distance != nil
	l.labels.stale = l.labels.stale || kind == lloyd.Assign || kind == lloyd.Iterate
	j := 0
	for _, s := range steps {
		if s == nil {
			continue
		}
		p := l.problems[j]
		s.Changed, s.Exact, s.Iterations, s.Stopped = p.changed, p.exact, int(p.iterations), lloyd.Stop(p.stopped)
		l.packed.unpack(s, j)
		j++
	}
	switch rc {
	case statusOK:
		return nil
	case statusCancelled:
		return context.Canceled
	case statusNonFinite:
		return backends.ErrNonFinite
	}
	e := backends.Fail(sentinel(rc), backends.OpKMeans, fmt.Sprintf("%d problems, %s", len(steps), l.fits[0].Shape()), "%s", why(rc, &x.message[0]))
	e.Backend = l.b.name + "/" + l.kernel.Name
	return e
}
