// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"runtime"
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
	once                 sync.Once
}

var _ backends.Backend = (*Backend)(nil)

// Name returns the name in the library's table.
func (b *Backend) Name() string { return b.name }

// Kernels lists what the library can do on this machine.
func (b *Backend) Kernels() []backends.Kernel { return b.kernels }

// Close ends the library's context. The library itself stays loaded. No call may be in flight.
func (b *Backend) Close() error {
	b.once.Do(func() {
		if b.closer != 0 {
			purego.SyscallN(b.closer, b.state)
		}
	})
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
// addresses stay while C uses them; they hold Go pointers only during a call.
type block[A any] struct {
	args    A
	argv    [2]uintptr
	message [messageSize]byte
}

// A pool for each kind of block is process-wide state without meaning: it only saves allocations.
var (
	quantizeBlocks  = pool[quantizeArgs]()
	constrainBlocks = pool[constrainArgs]()
	reduceBlocks    = pool[reduceArgs]()
)

func pool[A any]() *sync.Pool { return &sync.Pool{New: func() any { return new(block[A]) }} }

// begin readies the common part.
func (x *block[A]) begin(c *call, state uintptr, cancel *atomic.Int32) {
	x.message[0] = 0
	*c = call{size: uint32(unsafe.Sizeof(x.args)), messageSize: messageSize, message: &x.message[0], cancel: (*int32)(unsafe.Pointer(cancel)), badIndex: -1}
	x.argv = [2]uintptr{state, uintptr(unsafe.Pointer(&x.args))}
}

// invoke calls the kernel.
func (x *block[A]) invoke(entry uintptr) int32 {
	rc, _, _ := purego.SyscallN(entry, x.argv[:]...)
	return int32(rc)
}

// failure turns a kernel's result into an error.
func (b *Backend) failure(op backends.Op, k backends.Kernel, rc int32, message *byte, x, y []float32, bad int64) error {
	shape := strconv.Itoa(len(x))
	sentinel := backends.ErrBackend
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
			return backends.Fail(backends.ErrNonFinite, op, shape, "%s[%d] = %v", name, bad, v[bad])
		}
	}
	e := backends.Fail(sentinel, op, shape, "code %d: %s", rc, text(message, messageSize))
	e.Backend = b.name + "/" + k.Name
	return e
}

// Quantize calls the kernel's quantize.
func (b *Backend) Quantize(k backends.Kernel, a *backends.Quantize) error {
	t := a.Dst
	x := quantizeBlocks.Get().(*block[quantizeArgs])
	x.args = quantizeArgs{
		levels: uint32(t.Levels), rule: uint32(a.Rule), format: uint32(t.Format),
		x: unsafe.SliceData(a.X), rows: int64(t.Rows), cols: int64(t.Cols), group: int64(t.Group), seed: a.Seed,
		out: unsafe.Pointer(unsafe.SliceData(t.Packed)), scales: unsafe.SliceData(t.Scales),
	}
	if t.Format == quant.Int8 {
		x.args.out = unsafe.Pointer(unsafe.SliceData(t.Codes))
	}
	x.begin(&x.args.call, b.state, a.Cancel)
	rc := x.invoke(b.entries[k.Index])
	runtime.KeepAlive(a)
	var err error
	if rc != statusOK {
		err = b.failure(backends.OpQuantize, k, rc, &x.message[0], a.X, nil, x.args.badIndex)
	}
	x.args = quantizeArgs{}
	quantizeBlocks.Put(x)
	return err
}

// Constrain calls the kernel's constrain.
func (b *Backend) Constrain(k backends.Kernel, a *backends.Constrain) error {
	x := constrainBlocks.Get().(*block[constrainArgs])
	x.args = constrainArgs{x: unsafe.SliceData(a.X), dst: unsafe.SliceData(a.Dst), n: int64(len(a.X)), radius: a.Radius}
	x.begin(&x.args.call, b.state, a.Cancel)
	rc := x.invoke(b.entries[k.Index])
	runtime.KeepAlive(a)
	a.Norm = x.args.norm
	var err error
	if rc != statusOK {
		err = b.failure(backends.OpConstrain, k, rc, &x.message[0], a.X, nil, x.args.badIndex)
	}
	x.args = constrainArgs{}
	constrainBlocks.Put(x)
	return err
}

// Reduce calls the kernel's dot or norm2.
func (b *Backend) Reduce(k backends.Kernel, a *backends.Reduce) error {
	x := reduceBlocks.Get().(*block[reduceArgs])
	x.args = reduceArgs{x: unsafe.SliceData(a.X), y: unsafe.SliceData(a.Y), n: int64(len(a.X))}
	x.begin(&x.args.call, b.state, a.Cancel)
	rc := x.invoke(b.entries[k.Index])
	runtime.KeepAlive(a)
	a.Result = x.args.result
	var err error
	if rc != statusOK {
		err = b.failure(k.Op, k, rc, &x.message[0], a.X, a.Y, x.args.badIndex)
	}
	x.args = reduceArgs{}
	reduceBlocks.Put(x)
	return err
}

// KMeans runs the shared algorithm with the library's steps.
func (b *Backend) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	x := new(block[kmeansArgs])
	var workspace []byte
	return lloyd.Run(ctx, a, func(s *lloyd.Step) error {
		x.args = kmeansArgs{
			step: uint32(s.Kind), x: unsafe.SliceData(s.X), n: int64(s.N), d: int64(s.D), k: int64(s.K),
			mean: unsafe.SliceData(s.Mean), centroids: unsafe.SliceData(s.Centroids), bias: unsafe.SliceData(s.Bias), weights: unsafe.SliceData(s.Weights),
			scale: unsafe.SliceData(s.Scale), weightScale: s.WeightScale, low: unsafe.SliceData(s.Low), high: unsafe.SliceData(s.High),
			labels: unsafe.SliceData(s.Labels), distance: unsafe.SliceData(s.Distance),
			sums: unsafe.SliceData(s.Sums), counts: unsafe.SliceData(s.Counts), weightSum: unsafe.SliceData(s.WeightSums),
		}
		if s.KeepMin {
			x.args.flags = keepMin
		}
		x.begin(&x.args.call, b.state, nil)
		rc := x.invoke(b.entries[k.Index]) // asks for the size of the workspace
		if need := x.args.workspaceSize; rc == statusOK {
			if int64(len(workspace)) < need+63 {
				workspace = make([]byte, need+63)
			}
			base := unsafe.Pointer(unsafe.SliceData(workspace))
			x.args.workspace = unsafe.Add(base, -uintptr(base)&63)
			x.args.workspaceSize = need
			rc = x.invoke(b.entries[k.Index])
		}
		runtime.KeepAlive(s)
		s.Changed = x.args.changed
		switch rc {
		case statusOK:
			return nil
		case statusNonFinite:
			return backends.ErrNonFinite
		}
		e := backends.Fail(backends.ErrBackend, backends.OpKMeans, a.Shape(), "code %d: %s", rc, text(&x.message[0], messageSize))
		if e.Backend = b.name + "/" + k.Name; rc == statusUnsupported {
			e.Err = backends.ErrUnsupported
		}
		return e
	})
}

// String describes the library.
func (b *Backend) String() string { return fmt.Sprintf("%s %s (%s)", b.name, b.version, b.build) }
