// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"unsafe"

	"github.com/setun-compute/setun/dispatch"
)

// mapped lists the program's slices that are buffers, by their addresses. It is not changed: another takes its place.
type mapped struct{ buffers []*Buffer }

var errAcross = errors.New("a slice lies partly in a mapped one, and partly not")

// start is where a slice begins.
func start(x []float32) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(x))) }

// find returns the buffer in which a slice lies, and where in it; nil for one that lies in none.
func (m *mapped) find(x []float32) (b *Buffer, offset int, err error) {
	if m == nil || len(x) == 0 {
		return nil, 0, nil
	}
	begin, end := start(x), start(x)+4*uintptr(len(x))
	i, found := slices.BinarySearchFunc(m.buffers, begin, func(b *Buffer, at uintptr) int { return cmp.Compare(start(b.host), at) })
	if !found {
		i-- // the last one that begins before
	}
	if i >= 0 {
		b = m.buffers[i]
		if from, to := start(b.host), start(b.host)+4*uintptr(b.n); begin < to {
			if end > to {
				return nil, 0, errAcross
			}
			return b, int(begin-from) / 4, nil
		}
	}
	if i+1 < len(m.buffers) && start(m.buffers[i+1].host) < end {
		return nil, 0, errAcross
	}
	return nil, 0, nil
}

// Map makes a buffer of the program's own slice. Until that is closed, calls of this runtime on slices that lie in x are calls on the buffer: what a device holds already is not copied, and results stay
// where they were computed. So a program that keeps its data in slices can have them on a device. Map each slice that goes its own ways by itself: a buffer moves as a whole.
//
// x itself then holds what the program can read only after Home, and whoever writes to it calls Changed afterwards. The suggestions and KMeansMany bring home what they read by themselves, and KMeans its weights and centroids. Results of theirs, scales of codes, and what Read and
// Write of another buffer copy must not lie in x, nor may memory of a Pinned be given back while it is mapped.
// Close of the buffer brings x home; Close of the runtime does not. Until one of the two, x stays in memory. Errors: ErrArgument for an empty x, ErrAlias for one that overlaps a slice that is mapped, ErrClosed.
func (rt *Runtime) Map(x []float32) (*Buffer, error) {
	if len(x) == 0 {
		return nil, bufferError("map", 0, ErrArgument, "there are no values")
	}
	rt.traffic.enter()
	defer rt.traffic.leave()
	if rt.closed.Load() {
		return nil, bufferError("map", len(x), ErrClosed, "Close was called")
	}
	b := &Buffer{rt: rt, order: buffers.Add(1), n: len(x), lock: newGate(1), host: x[:len(x):len(x)], mapped: true, where: dispatch.Residence{Bytes: 4 * float64(len(x))}}
	b.where.Overwrite(dispatch.Host)
	rt.mapping.Lock()
	defer rt.mapping.Unlock()
	old := rt.mapped.Load()
	if in, _, err := old.find(x); in != nil || err != nil {
		return nil, bufferError("map", len(x), ErrAlias, "the slice overlaps one that is mapped")
	}
	m := &mapped{[]*Buffer{b}}
	if old != nil {
		m.buffers = append(m.buffers, old.buffers...)
		slices.SortFunc(m.buffers, func(a, b *Buffer) int { return cmp.Compare(start(a.host), start(b.host)) })
	}
	rt.mapped.Store(m)
	return b, nil
}

// unmap takes a buffer out of the list.
func (rt *Runtime) unmap(b *Buffer) {
	rt.mapping.Lock()
	defer rt.mapping.Unlock()
	old := rt.mapped.Load()
	if old == nil || !slices.Contains(old.buffers, b) {
		return
	}
	if len(old.buffers) == 1 {
		rt.mapped.Store(nil)
		return
	}
	rt.mapped.Store(&mapped{slices.DeleteFunc(slices.Clone(old.buffers), func(x *Buffer) bool { return x == b })})
}

// Home brings what calls have made of slices to where the program can read it. It does nothing for slices that are not mapped. Errors: ErrArgument for a slice that lies partly in a mapped one, ErrLost when the values were on a device that is lost.
func (rt *Runtime) Home(slices ...[]float32) error {
	return rt.each("home", slices, func(b *Buffer, _ []float32) error { return b.bringHome() })
}

// home is Home for a call with a context that may end: neither others nor a device that does not answer are waited for much longer.
func (rt *Runtime) home(ctx context.Context, slices ...[]float32) error {
	for _, x := range slices {
		if err := slice(x).home(ctx, rt); err != nil {
			return err
		}
	}
	return nil
}

// Changed says that the program has written to slices: what devices hold of them is old. It does nothing for slices that are not mapped.
// Errors: ErrArgument for a slice that lies partly in a mapped one, and for a part of one whose rest is not at home: call Home before writing to a part.
func (rt *Runtime) Changed(slices ...[]float32) error {
	return rt.each("changed", slices, func(b *Buffer, x []float32) error {
		if len(x) < b.n && !b.where.In.Has(dispatch.Host) {
			return bufferError("changed", b.n, ErrArgument, "%d values were written, and the others are not at home", len(x))
		}
		b.where.Overwrite(dispatch.Host)
		return nil
	})
}

// each does something to the buffers in which slices lie, one after the other.
func (rt *Runtime) each(what string, slices [][]float32, do func(*Buffer, []float32) error) error {
	m := rt.mapped.Load()
	if m == nil {
		return nil
	}
	for _, x := range slices {
		b, _, err := m.find(x)
		if err != nil {
			return bufferError(what, len(x), ErrArgument, "%v", err)
		}
		if b == nil {
			continue
		}
		if err := b.with(what, b.n, func() error { return do(b, x) }); err != nil && !(errors.Is(err, ErrClosed) && !rt.closed.Load()) { // one that has been closed in between is at home
			return err
		}
	}
	return nil
}

// bringHome brings the values to the program's memory.
func (b *Buffer) bringHome() error {
	if b.where.In.Has(dispatch.Host) {
		return nil
	}
	if err := b.download(b.host); err != nil {
		return err
	}
	b.where.In |= 1 << dispatch.Host
	return nil
}
