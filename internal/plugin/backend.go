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
	"github.com/setun-compute/setun/quant"
)

// Backend is a context of a loaded library, as a backends.Backend.
type Backend struct {
	lib     *Library
	name    string
	kernels []backends.Kernel
	entries []uintptr // by Kernel.Index
	state   uintptr   // setun_ctx
	closed  atomic.Bool
}

var _ backends.Backend = (*Backend)(nil)

// Name returns the name in the library's table, or the one that a device was opened with.
func (b *Backend) Name() string { return b.name }

// Kernels lists what the library can do on this machine.
func (b *Backend) Kernels() []backends.Kernel { return b.kernels }

// Close ends the library's context. The library itself stays loaded. No call may be in flight; calls afterwards return an error.
func (b *Backend) Close() error {
	if !b.closed.Swap(true) && b.lib.close != 0 {
		purego.SyscallN(b.lib.close, b.state)
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
	shape, bad := strconv.Itoa(len(x)), c.badIndex
	reason := why(rc, c.message)
	*c.message = 0
	switch rc {
	case statusCancelled:
		return context.Canceled
	case statusNonFinite:
		name, v := "x", x
		if bad >= int64(len(x)) {
			name, v, bad = "y", y, bad-int64(len(x))
		}
		if bad >= 0 && bad < int64(len(v)) {
			return backends.Fail(backends.ErrNonFinite, k.Op, shape, "%s[%d] = %v", name, bad, v[bad])
		}
	}
	e := backends.Fail(sentinel(rc), k.Op, shape, "%s", reason)
	e.Backend = b.name + "/" + k.Name
	return e
}

// why says it in words.
func why(rc int32, message *byte) string {
	if rc == statusWorkspace {
		return "the workspace that it asked for has no possible size"
	}
	return fmt.Sprintf("code %d: %s", rc, text(message, messageSize))
}

// sentinel is the error that a failure of a kernel or a device wraps.
func sentinel(rc int32) error {
	switch rc {
	case statusUnsupported:
		return backends.ErrUnsupported
	case statusNoMemory:
		return backends.ErrMemory
	case statusLost:
		return backends.ErrLost
	}
	return backends.ErrBackend
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
	p.x = operand(a.X, a.XAt)
	p.describe(t, a.Rule, a.Seed)
	if rc := x.invoke(b, k); rc != statusOK {
		b.fetch(rc, p.badIndex, a.X, nil, a.XAt, 0)
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
	p.x, p.dst, p.n, p.radius = operand(a.X, a.XAt), operand(a.Dst, a.DstAt), int64(len(a.X)), a.Radius
	if rc := x.invoke(b, k); rc != statusOK {
		b.fetch(rc, p.badIndex, a.X, nil, a.XAt, 0)
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
	p.x, p.y, p.n = operand(a.X, a.XAt), operand(a.Y, a.YAt), int64(len(a.X))
	if rc := x.invoke(b, k); rc != statusOK {
		b.fetch(rc, p.badIndex, a.X, a.Y, a.XAt, a.YAt)
		err = b.failure(k, rc, &p.call, a.X, a.Y)
	} else {
		a.Result = p.result
	}
	p.cancel, p.x, p.y = nil, nil, nil
	reduceBlocks.Put(x)
	return err
}

// String describes the library.
func (b *Backend) String() string {
	return fmt.Sprintf("%s %s (%s)", b.name, b.lib.version, b.lib.build)
}
