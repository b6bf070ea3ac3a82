// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
	"github.com/setun-compute/setun/quant"
)

// Backend is a loaded library, as a backends.Backend.
type Backend struct {
	name, version, build string
	kernels              []backends.Kernel
	entries              []uintptr // by Kernel.Index
	state                uintptr   // setun_ctx
	closer               uintptr
	closed               atomic.Bool
}

var _ backends.Backend = (*Backend)(nil)

// Name returns the name in the library's table.
func (b *Backend) Name() string { return b.name }

// Kernels lists what the library can do on this machine.
func (b *Backend) Kernels() []backends.Kernel { return b.kernels }

// Close ends the library's context. The library itself stays loaded. No call may be in flight; calls afterwards return an error.
func (b *Backend) Close() error {
	if !b.closed.Swap(true) && b.closer != 0 {
		purego.SyscallN(b.closer, b.state)
	}
	return nil
}

// Restrict keeps only the kernels that keep accepts.
func (b *Backend) Restrict(keep func(backends.Kernel) bool) {
	var ks []backends.Kernel
	for _, k := range b.kernels {
		if keep(k) {
			ks = append(ks, k)
		}
	}
	b.kernels = ks
}

// block is an argument struct with what a call needs beside it. Blocks are pooled and live on the heap, so their
// addresses stay while C uses them; they hold the caller's pointers only during a call. What never changes is filled in once.
type block[A any] struct {
	args    A
	argv    [2]uintptr // context, &args
	message [messageSize]byte
}

// A pool for each kind of block is process-wide state without meaning: it only saves allocations.
var (
	quantizeBlocks  = pool(func(a *quantizeArgs) *call { return &a.call })
	constrainBlocks = pool(func(a *constrainArgs) *call { return &a.call })
	reduceBlocks    = pool(func(a *reduceArgs) *call { return &a.call })
)

func pool[A any](common func(*A) *call) *sync.Pool {
	return &sync.Pool{New: func() any { return newBlock(common) }}
}

func newBlock[A any](common func(*A) *call) *block[A] {
	x := new(block[A])
	*common(&x.args) = call{size: uint32(unsafe.Sizeof(x.args)), messageSize: messageSize, message: &x.message[0]}
	x.argv[1] = uintptr(unsafe.Pointer(&x.args))
	return x
}

// flag is the address of a cancel flag as C reads it.
func flag(c *atomic.Int32) *int32 { return (*int32)(unsafe.Pointer(c)) }

// invoke calls the kernel with a backend's context.
func (x *block[A]) invoke(b *Backend, k backends.Kernel) int32 {
	if b.closed.Load() { // the context is gone
		copy(x.message[:], "the backend was closed\x00")
		return statusClosed
	}
	x.argv[0] = b.state
	rc, _, _ := purego.SyscallN(b.entries[k.Index], x.argv[:]...)
	return int32(rc)
}

// failure turns a kernel's result into an error. It empties the message for the next call.
func (b *Backend) failure(k backends.Kernel, rc int32, c *call, x, y []float32) error {
	shape, bad, sentinel := strconv.Itoa(len(x)), c.badIndex, backends.ErrBackend
	message := text(c.message, messageSize)
	*c.message = 0
	switch rc {
	case statusCancelled:
		return context.Canceled
	case statusUnsupported:
		sentinel = backends.ErrUnsupported
	case statusNonFinite:
		name, v := "x", x
		if bad >= int64(len(x)) {
			name, v, bad = "y", y, bad-int64(len(x))
		}
		if bad >= 0 && bad < int64(len(v)) {
			return backends.Fail(backends.ErrNonFinite, k.Op, shape, "%s[%d] = %v", name, bad, v[bad])
		}
	}
	e := backends.Fail(sentinel, k.Op, shape, "code %d: %s", rc, message)
	e.Backend = b.name + "/" + k.Name
	return e
}

// describe fills in what to make of the values: all but those themselves.
func (p *quantizeArgs) describe(t *quant.Tensor, rule quant.Rule, seed uint64) {
	p.levels, p.rule, p.format, p.seed = uint32(t.Levels), uint32(rule), uint32(t.Format), seed
	p.rows, p.cols, p.group = int64(t.Rows), int64(t.Cols), int64(t.Group)
	p.scales = unsafe.SliceData(t.Scales)
	if p.out = unsafe.Pointer(unsafe.SliceData(t.Packed)); t.Format == quant.Int8 {
		p.out = unsafe.Pointer(unsafe.SliceData(t.Codes))
	}
}

// Quantize calls the kernel's quantize.
func (b *Backend) Quantize(k backends.Kernel, a *backends.Quantize) (err error) {
	t, x := a.Dst, quantizeBlocks.Get().(*block[quantizeArgs])
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.x = unsafe.SliceData(a.X)
	p.describe(t, a.Rule, a.Seed)
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, nil)
	}
	p.cancel, p.x, p.scales, p.out = nil, nil, nil, nil
	quantizeBlocks.Put(x)
	return err
}

// Constrain calls the kernel's constrain.
func (b *Backend) Constrain(k backends.Kernel, a *backends.Constrain) (err error) {
	x := constrainBlocks.Get().(*block[constrainArgs])
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.x, p.dst, p.n, p.radius = unsafe.SliceData(a.X), unsafe.SliceData(a.Dst), int64(len(a.X)), a.Radius
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, nil)
	} else {
		a.Norm = p.norm
	}
	p.cancel, p.x, p.dst = nil, nil, nil
	constrainBlocks.Put(x)
	return err
}

// Reduce calls the kernel's dot or norm2.
func (b *Backend) Reduce(k backends.Kernel, a *backends.Reduce) (err error) {
	x := reduceBlocks.Get().(*block[reduceArgs])
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.x, p.y, p.n = unsafe.SliceData(a.X), unsafe.SliceData(a.Y), int64(len(a.X))
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, a.X, a.Y)
	} else {
		a.Result = p.result
	}
	p.cancel, p.x, p.y = nil, nil, nil
	reduceBlocks.Put(x)
	return err
}

// KMeans runs the shared algorithm with the library's steps.
func (b *Backend) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	return lloyd.Run(ctx, a, b.Steps(k, a.Shape()))
}

// Steps returns a kernel's steps of k-means. Errors name the given shape. One step at a time: they share a workspace.
func (b *Backend) Steps(k backends.Kernel, shape string) lloyd.Func {
	x := newBlock(func(a *kmeansArgs) *call { return &a.call })
	var workspace []byte
	return func(s *lloyd.Step) error {
		x.args = kmeansArgs{
			call: x.args.call, step: uint32(s.Kind), x: unsafe.SliceData(s.X), n: int64(s.N), d: int64(s.D), k: int64(s.K),
			mean: unsafe.SliceData(s.Mean), centroids: unsafe.SliceData(s.Centroids), bias: unsafe.SliceData(s.Bias), weights: unsafe.SliceData(s.Weights),
			scale: unsafe.SliceData(s.Scale), weightScale: s.WeightScale, low: unsafe.SliceData(s.Low), high: unsafe.SliceData(s.High),
			labels: unsafe.SliceData(s.Labels), distance: unsafe.SliceData(s.Distance),
			unit: unsafe.SliceData(s.Unit), sums: unsafe.SliceData(s.Sums), counts: unsafe.SliceData(s.Counts), weightSum: unsafe.SliceData(s.WeightSums),
		}
		x.args.cancel = flag(s.Cancel)
		if s.KeepMin {
			x.args.flags |= keepMin
		}
		if s.Moved {
			x.args.flags |= moved
		}
		rc := x.invoke(b, k) // asks for the size of the workspace
		if need := x.args.workspaceSize; rc == statusOK {
			x.args.workspace = aligned(&workspace, need)
			x.args.workspaceSize = need
			rc = x.invoke(b, k)
		}
		s.Changed, s.Exact, s.WeightScale = x.args.changed, x.args.exact, x.args.weightScale
		switch rc {
		case statusOK:
			return nil
		case statusCancelled:
			return context.Canceled
		case statusNonFinite:
			return backends.ErrNonFinite
		}
		e := backends.Fail(backends.ErrBackend, backends.OpKMeans, shape, "code %d: %s", rc, text(&x.message[0], messageSize))
		if e.Backend = b.name + "/" + k.Name; rc == statusUnsupported {
			e.Err = backends.ErrUnsupported
		}
		return e
	}
}

// String describes the library.
func (b *Backend) String() string { return fmt.Sprintf("%s %s (%s)", b.name, b.version, b.build) }
