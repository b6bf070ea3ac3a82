// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
)

// KMeans runs the shared algorithm with the library's steps. On a device the points stay there for the whole run; where there is no memory for that, the run begins anew with the points here.
func (b *Backend) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	if b.lib.device == nil {
		return lloyd.Run(ctx, a, lloyd.Steps{Step: b.Steps(k, a.Shape()), Iterates: b.lib.iterates[k.Index]})
	}
	err := b.mirrored(ctx, k, a, false)
	if errors.Is(err, backends.ErrMemory) {
		err = b.mirrored(ctx, k, a, true)
	}
	return err
}

// mirrored is KMeans on a device. streams: a step at a time, each of which the library does in pieces when it has to.
func (b *Backend) mirrored(ctx context.Context, k backends.Kernel, a *backends.KMeans, streams bool) error {
	a.Streamed = streams
	m := &mirror{device: Device{b}, rows: a.N, first: unsafe.Pointer(unsafe.SliceData(a.X)), streams: streams}
	defer m.free()
	m.lend(backends.Bytes(a.X), a.XAt, false)
	m.lend(backends.Bytes(a.Weights), a.WeightsAt, true)
	if err := m.reserve(a); err != nil {
		return err
	}
	return lloyd.Run(ctx, a, lloyd.Steps{Step: b.steps(k, a.Shape(), m), Iterates: b.lib.iterates[k.Index] && !streams, Pull: m.pull, Points: m.points, Push: m.push})
}

// Steps returns a kernel's steps of k-means, on arrays in the host's memory. Errors name the given shape. One step at a time: they share a workspace.
func (b *Backend) Steps(k backends.Kernel, shape string) lloyd.Func { return b.steps(k, shape, nil) }

// steps is Steps with the large arrays in a mirror, unless that is nil.
func (b *Backend) steps(k backends.Kernel, shape string, m *mirror) lloyd.Func {
	x := newBlock(func(a *kmeansArgs) *call { return &a.call })
	var workspace []byte
	return func(s *lloyd.Step) error {
		x.args = kmeansArgs{
			call: x.args.call, step: uint32(s.Kind), x: unsafe.SliceData(s.X), n: int64(s.N), d: int64(s.D), k: int64(s.K),
			mean: unsafe.SliceData(s.Mean), centroids: unsafe.SliceData(s.Centroids), bias: unsafe.SliceData(s.Bias), weights: unsafe.SliceData(s.Weights),
			scale: unsafe.SliceData(s.Scale), weightScale: s.WeightScale, low: unsafe.SliceData(s.Low), high: unsafe.SliceData(s.High),
			labels: unsafe.SliceData(s.Labels), distance: unsafe.SliceData(s.Distance),
			unit: unsafe.SliceData(s.Unit), sums: unsafe.SliceData(s.Sums), counts: unsafe.SliceData(s.Counts), weightSum: unsafe.SliceData(s.WeightSums),
			next: unsafe.SliceData(s.Centroids), iterations: int64(s.Iterations), limit: s.Limit, seed: s.Seed,
		}
		x.args.cancel = flag(s.Cancel)
		if s.KeepMin {
			x.args.flags |= keepMin
		}
		if s.Moved {
			x.args.flags |= moved
		}
		if m != nil {
			if err := m.place(s, &x.args); err != nil {
				return err
			}
		}
		rc := x.invoke(b, k) // asks for the size of the workspace
		if rc == statusOK {
			x.args.workspace, rc = room(&workspace, x.args.workspaceSize)
		}
		if rc == statusOK {
			rc = x.invoke(b, k)
		}
		s.Changed, s.Exact, s.WeightScale = x.args.changed, x.args.exact, x.args.weightScale
		s.Iterations, s.Stopped = int(x.args.iterations), lloyd.Stop(x.args.stopped)
		return b.stepped(k, rc, shape, &x.message[0])
	}
}

// stepped is what has become of a step.
func (b *Backend) stepped(k backends.Kernel, rc int32, shape string, message *byte) error {
	switch rc {
	case statusOK:
		return nil
	case statusCancelled:
		return context.Canceled
	case statusNonFinite:
		return backends.ErrNonFinite
	}
	e := backends.Fail(sentinel(rc), backends.OpKMeans, shape, "%s", why(rc, message))
	e.Backend = b.name + "/" + k.Name
	return e
}
