// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
)

// What fits have on the device together at most: values of points, multiply-adds of an iteration, which is a twentieth of a second, and fits, each of which is a goroutine. The largest has so many times
// the points of the smallest at most, for all get the same share of the device.
const (
	gatheredValues = 1 << 25
	gatheredWork   = 1 << 40
	gatheredFits   = 4096
	gatheredSpan   = 4
)

// KMeansMany runs many fits: a step of all of them is one call of the library. Those of about the same size go together, as many as the device has memory for; one that is alone goes its own way.
func (b *Backend) KMeansMany(ctx context.Context, k backends.Kernel, a *backends.KMeansMany) error {
	a.Failed = -1
	if !k.Many {
		return &backends.Error{Op: "kmeans", Backend: b.name, Err: backends.ErrUnsupported}
	}
	order := make([]int, len(a.Fits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return a.Fits[j].N - a.Fits[i].N })
	most := gatheredFits
	for done := 0; done < len(order); {
		first := a.Fits[order[done]]
		n, values := 1, len(first.X)
		for n < most && done+n < len(order) {
			next := a.Fits[order[done+n]]
			if values += len(next.X); int64(values) > min(gatheredValues, gatheredWork/int64(next.K)) || first.N > gatheredSpan*next.N {
				break
			}
			n++
		}
		fits := make([]*backends.KMeans, n)
		for i := range fits {
			fits[i] = a.Fits[order[done+i]]
		}
		i, err := 0, error(nil)
		if n == 1 {
			err = b.KMeans(ctx, k, first)
		} else if i, err = b.gather(ctx, k, fits); errors.Is(err, backends.ErrMemory) {
			most = n / 2
			continue
		}
		if err != nil {
			if i >= 0 {
				a.Failed = order[done+i]
			}
			return err
		}
		done += n
	}
	return nil
}

// gather runs fits that are on the device together, and returns whose error it is; −1: none's.
func (b *Backend) gather(ctx context.Context, k backends.Kernel, fits []*backends.KMeans) (int, error) {
	l := &gathering{b: b, kernel: k, fits: fits, first: make([]int, len(fits)+1), units: make([]*float32, len(fits)), block: newBlock(func(a *kmeansArgs) *call { return &a.call })}
	for i, a := range fits {
		l.first[i+1] = l.first[i] + a.N
	}
	rows, d := l.first[len(fits)], fits[0].D
	for _, v := range [...]struct {
		a      *shared
		values int
	}{{&l.points, rows * d}, {&l.labels, rows}, {&l.distance, rows}, {&l.unit, rows}} {
		if v.a == &l.unit && !fits[0].Cosine {
			continue
		}
		at, err := Device{b}.Alloc(4 * int64(v.values))
		if err != nil {
			return -1, err
		}
		defer func() { _ = Device{b}.Free(at) }() // that of a device that is lost is gone already
		v.a.device, v.a.at, v.a.host = Device{b}, at, make([]byte, 4*v.values)
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
	up                             bool         // the points are on the device
	units                          []*float32   // by fit, the host's array that the device has in unit
	pushed                         atomic.Int32 // fits that have written their labels on the host

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

// each goes through the arrays, with the part of each that is a step's, empty where it has none; out: what comes back, as all integers do.
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
	push := func(labels []int32, _ []float32) {
		copy(l.labels.host[4*l.first[i]:], backends.Bytes(labels))
		l.pushed.Add(1)
	}
	return lloyd.Steps{Pull: pull, Push: push}
}

// bring brings up what the host has written: the points, and labels, which all fits take away at the same time.
func (l *gathering) bring(cancel *int32) error {
	if !l.up {
		if err := l.points.upload(cancel); err != nil {
			return err
		}
		l.up, l.points.host = true, nil
	}
	switch n := l.pushed.Swap(0); int(n) {
	case 0:
		return nil
	case len(l.fits):
		return l.labels.upload(cancel)
	default:
		return &backends.Error{Op: "kmeans", Backend: l.b.name, Detail: fmt.Sprintf("%d of %d fits have taken their labels away", n, len(l.fits)), Err: backends.ErrBackend}
	}
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
		next: begin(p.centroids), seed: any.Seed, problems: unsafe.SliceData(l.problems), problemCount: uint32(len(l.problems)), problemSize: uint32(unsafe.Sizeof(problem{})),
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
	return l.b.stepped(l.kernel, rc, fmt.Sprintf("%d problems like %s", len(l.problems), l.fits[0].Shape()), &x.message[0])
}
