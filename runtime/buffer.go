// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// Buffer is n float32 values that live where calls want them: in the program's memory or in a device's. A chain of calls on buffers copies nothing that is there already; a buffer whose calls
// would rather run elsewhere is moved once staying has cost as much as moving. Results are those of the same calls on slices, bit for bit.
//
// Without a device a buffer is a slice. Methods are safe for concurrent use; calls with a buffer in common wait for each other, but not for one that was left with ErrBlocked: until that has returned they fail with ErrBlocked too. Close gives back what it has on devices.
type Buffer struct {
	rt    *Runtime
	order uint64 // in which buffers of a call are locked
	n     int

	lock   *gate     // of one place: for what follows
	host   []float32 // n values, up to date when where says so
	at     [dispatch.NumMemories]backends.Address
	where  dispatch.Residence
	mapped bool // host is the program's
	held   bool // by a call that was left because it does not return
	closed bool
}

// buffers counts all buffers ever made: that order says in which the ones of a call are locked, and nothing else.
var buffers atomic.Uint64

// NewBuffer returns a buffer of n values, all 0. Memory of a device is taken when the first call goes there. Errors: ErrArgument for n < 1.
func (rt *Runtime) NewBuffer(n int) (*Buffer, error) {
	if n < 1 {
		return nil, bufferError("new", n, ErrArgument, "there are no values")
	}
	b := &Buffer{rt: rt, order: buffers.Add(1), n: n, lock: newGate(1), host: make([]float32, n), where: dispatch.Residence{Bytes: 4 * float64(n)}}
	b.where.Overwrite(dispatch.Host)
	return b, nil
}

func bufferError(what string, n int, sentinel error, format string, args ...any) error {
	return &backends.Error{Op: "buffer " + what, Shape: fmt.Sprint(n), Detail: fmt.Sprintf(format, args...), Err: sentinel}
}

// Len returns the number of values.
func (b *Buffer) Len() int { return b.n }

// vector is the buffer as an operand.
func (b *Buffer) vector() vector {
	if b == nil {
		return vector{}
	}
	return vector{b.host, b}
}

// Write puts values into the buffer, as many as it has. Errors: ErrShape, ErrClosed.
func (b *Buffer) Write(x []float32) error {
	return b.with("write", len(x), func() error {
		copy(b.host, x)
		b.where.Overwrite(dispatch.Host)
		return nil
	})
}

// Read copies the values to dst, which must have room for just them. Errors: ErrShape, ErrClosed, ErrLost when the values were on a device that is lost.
func (b *Buffer) Read(dst []float32) error {
	return b.with("read", len(dst), func() error {
		if b.where.In.Has(dispatch.Host) {
			copy(dst, b.host)
			return nil
		}
		return b.download(dst)
	})
}

// with does something to the buffer alone.
func (b *Buffer) with(what string, n int, do func() error) error {
	b.rt.traffic.enter() // Close of the runtime waits
	defer b.rt.traffic.leave()
	place, err := b.lock.enter(context.Background())
	if err != nil {
		return err
	}
	defer b.lock.leave(place)
	switch {
	case b.closed || b.rt.closed.Load():
		return bufferError(what, b.n, ErrClosed, "the buffer or its runtime was closed")
	case b.held:
		return bufferError(what, b.n, ErrBlocked, "an earlier call still has it")
	case n != b.n:
		return bufferError(what, b.n, ErrShape, "the slice has %d values", n)
	}
	return do()
}

// Close gives back the memory on devices; the rest is the garbage collector's. It brings a mapped slice home first, and is undone when that fails, unless the device is lost. It may be called more than once; calls with the buffer afterwards return an error. The runtime's Close ends what is on devices too.
// While a call that was left with ErrBlocked has the buffer, Close does not wait for it and returns ErrBlocked: what is on devices is given back when that call has returned. A mapped slice stays mapped; Close brings it home once the call has returned.
func (b *Buffer) Close() error {
	b.rt.traffic.enter()
	defer b.rt.traffic.leave()
	place, err := b.lock.enter(context.Background())
	if err != nil {
		return err
	}
	defer b.lock.leave(place)
	if b.held {
		b.closed = b.closed || !b.mapped
		return bufferError("close", b.n, ErrBlocked, "an earlier call still has it")
	}
	if b.mapped && !b.closed && !b.rt.closed.Load() {
		if err = b.bringHome(); err != nil && !errors.Is(err, ErrLost) {
			return err // it is still what the device has, and may be brought home yet
		}
		b.rt.unmap(b)
	}
	b.closed = true
	return errors.Join(err, b.free())
}

// free gives back the memory on devices.
func (b *Buffer) free() (err error) {
	for m, at := range b.at {
		if at != 0 && !b.rt.closed.Load() && b.rt.memories[m].lost.Load() == nil {
			if e := b.rt.memories[m].memory.Free(at); e != nil {
				err = e
			}
		}
		b.at[m] = 0
	}
	return err
}

// download brings the values from a device that has them.
func (b *Buffer) download(to []float32) error {
	for m := dispatch.Host + 1; m < dispatch.NumMemories; m++ {
		if b.where.In.Has(m) {
			d := b.rt.memories[m]
			err := d.memory.Download(backends.Bytes(to), b.at[m])
			if errors.Is(err, backends.ErrLost) {
				b.rt.lose(d.home, err)
			}
			return err
		}
	}
	return bufferError("read", b.n, ErrBackend, "the values are nowhere")
}

// Norm2 returns ‖b‖₂, as Runtime.Norm2 does for a slice.
func (b *Buffer) Norm2() (float64, error) { return b.rt.reduce(backends.OpNorm2, b.vector(), vector{}) }

// Dot returns Σ b·y, as Runtime.Dot does for slices. y may be b.
func (b *Buffer) Dot(y *Buffer) (float64, error) {
	return b.rt.reduce(backends.OpDot, b.vector(), y.vector())
}

// Quantize turns the values into codes and scales, as Runtime.QuantizeContext does for a slice. The codes are the program's.
func (b *Buffer) Quantize(ctx context.Context, dst *quant.Tensor, opts quant.Options) (*quant.Tensor, error) {
	return b.rt.quantize(given(ctx), 0, dst, b.vector(), opts)
}

// Constrain projects the step b on the ball of the given radius, as Runtime.ConstrainContext does for slices, into dst; b itself when that is nil. It returns ‖b‖₂.
func (b *Buffer) Constrain(ctx context.Context, dst *Buffer, radius float64) (norm float64, err error) {
	if dst == nil {
		dst = b
	}
	_, norm, err = b.rt.constrain(given(ctx), 0, dst.vector(), b.vector(), radius)
	return norm, err
}

// KMeans clusters the points b, as Runtime.KMeans does those of a slice. They stay where they are: what the host reads of them are the rows that k-means++ draws and that empty clusters take, and
// all of them with Batch or SkipNonFinite. Centroids, weights and results are the program's.
func (b *Buffer) KMeans(ctx context.Context, dst *Clustering, dim int, o KMeansOptions) (*Clustering, error) {
	return b.rt.kmeans(given(ctx), 0, true, dst, b.vector(), dim, o)
}

// Step does a training step on the parameters b, as Runtime.StepContext does for slices.
func (b *Buffer) Step(ctx context.Context, dst *quant.Tensor, delta *Buffer, radius float64, opts quant.Options) (out *quant.Tensor, norm float64, err error) {
	return b.rt.step(given(ctx), dst, b.vector(), delta.vector(), radius, opts)
}

// MatMul sets b to the product of x and y, m rows of k values and k rows of n, as Runtime.MatMulContext does for slices.
func (b *Buffer) MatMul(ctx context.Context, x, y *Buffer, m, n, k int, o MatMulOptions) error {
	_, err := b.rt.matmul(given(ctx), b.vector(), x.vector(), y.vector(), m, n, k, o)
	return err
}
