// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// flaky is a backend of pure Go that fails when it is told to: before it has written anything, as backends must.
type flaky struct {
	cpu.Backend
	left  atomic.Int64          // calls that are still to fail
	fails atomic.Pointer[error] // how
	hang  atomic.Int64          // calls that are still to hang
	free  chan struct{}         // closed at the end: they return
}

func newFlaky() *flaky { return &flaky{free: make(chan struct{})} }

func (f *flaky) Name() string { return "flaky" }

func (f *flaky) Kernels() []backends.Kernel {
	var list []backends.Kernel
	for _, op := range backends.Ops() {
		list = append(list, backends.Kernel{Op: op, Name: "k", Threads: 1})
	}
	return list
}

// fault makes the next calls fail.
func (f *flaky) fault(err error, calls int64) {
	f.fails.Store(&err)
	f.left.Store(calls)
}

func (f *flaky) begin() error {
	if f.left.Load() > 0 && f.left.Add(-1) >= 0 {
		return *f.fails.Load()
	}
	return nil
}

// wait hangs in a call that has a context, if it is to.
func (f *flaky) wait(cancel *atomic.Int32) {
	if cancel != nil && f.hang.Load() > 0 && f.hang.Add(-1) >= 0 {
		<-f.free
	}
}

func (f *flaky) Reduce(k backends.Kernel, a *backends.Reduce) error {
	return then(f.begin(), func() error { return f.Backend.Reduce(k, a) })
}

func (f *flaky) Constrain(k backends.Kernel, a *backends.Constrain) error {
	return then(f.begin(), func() error { return f.Backend.Constrain(k, a) })
}

func (f *flaky) ConstrainClusters(k backends.Kernel, a *backends.Clusters) error {
	return then(f.begin(), func() error { return f.Backend.ConstrainClusters(k, a) })
}

func (f *flaky) Quantize(k backends.Kernel, a *backends.Quantize) error {
	f.wait(a.Cancel)
	return then(f.begin(), func() error { return f.Backend.Quantize(k, a) })
}

func (f *flaky) Step(k backends.Kernel, a *backends.Step) error {
	return then(f.begin(), func() error { return f.Backend.Step(k, a) })
}

func (f *flaky) MatMul(k backends.Kernel, a *backends.MatMul) error {
	return then(f.begin(), func() error { return f.Backend.MatMul(k, a) })
}

func (f *flaky) Activations(k backends.Kernel, a *backends.Activations) error {
	return then(f.begin(), func() error { return f.Backend.Activations(k, a) })
}

func (f *flaky) Ternary(k backends.Kernel, a *backends.Ternary) error {
	return then(f.begin(), func() error { return f.Backend.Ternary(k, a) })
}

func (f *flaky) Recode(k backends.Kernel, a *backends.Recode) error {
	return then(f.begin(), func() error { return f.Backend.Recode(k, a) })
}

func (f *flaky) RMSNorm(k backends.Kernel, a *backends.RMSNorm) error {
	return then(f.begin(), func() error { return f.Backend.RMSNorm(k, a) })
}

func (f *flaky) Softmax(k backends.Kernel, a *backends.Softmax) error {
	return then(f.begin(), func() error { return f.Backend.Softmax(k, a) })
}

func (f *flaky) Activate(k backends.Kernel, a *backends.Activate) error {
	return then(f.begin(), func() error { return f.Backend.Activate(k, a) })
}

func (f *flaky) Update(k backends.Kernel, a *backends.Update) error {
	return then(f.begin(), func() error { return f.Backend.Update(k, a) })
}

func (f *flaky) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	return then(f.begin(), func() error { return f.Backend.KMeans(ctx, k, a) })
}

func then(err error, run func() error) error {
	if err != nil {
		return err
	}
	return run()
}

// expected says whether an error is one that a fault may bring to a caller.
func expected(err error) bool {
	return errors.Is(err, backends.ErrBlocked) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, backends.ErrClosed)
}
