// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"sync"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// activationsArgs mirrors setun_activations.
type activationsArgs struct {
	call
	x          *float32
	rows, cols int64
	out        *int8
	scales     *float32
}

// ternaryArgs mirrors setun_ternary.
type ternaryArgs struct {
	call
	levels, format    uint32
	codes             unsafe.Pointer
	signs             *byte
	index             *int64
	scales            *float32
	rows, cols, group int64
	x                 *int8
	xScales           *float32
	batch             int64
	out               *float32
	workspace         unsafe.Pointer
	workspaceSize     int64
}

// recodeArgs mirrors setun_recode.
type recodeArgs struct {
	call
	from, to   uint32
	codes      unsafe.Pointer
	signs      *byte
	index      *int64
	rows, cols int64
	out        unsafe.Pointer
}

// ternaryBlock keeps the workspace with the block, so that calls of one size allocate nothing.
type ternaryBlock struct {
	*block[ternaryArgs]
	workspace []byte
}

var (
	activationsBlocks = pool(func(a *activationsArgs) *call { return &a.call })
	recodeBlocks      = pool(func(a *recodeArgs) *call { return &a.call })
	ternaryBlocks     = sync.Pool{New: func() any {
		return &ternaryBlock{block: newBlock(func(a *ternaryArgs) *call { return &a.call })}
	}}
)

// Activations calls the kernel's activations.
func (b *Backend) Activations(k backends.Kernel, a *backends.Activations) (err error) {
	d, x := a.Dst, activationsBlocks.Get().(*block[activationsArgs])
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.x, p.rows, p.cols, p.out, p.scales = operand(a.X, a.XAt), int64(d.Rows), int64(d.Cols), unsafe.SliceData(d.Codes), unsafe.SliceData(d.Scales)
	if rc := x.invoke(b, k); rc != statusOK {
		b.fetch(rc, p.badIndex, a.X, nil, a.XAt, 0)
		err = b.failure(k, rc, &p.call, a.X, nil)
	}
	p.cancel, p.x, p.out, p.scales = nil, nil, nil, nil
	activationsBlocks.Put(x)
	return err
}

// codesOf is where a tensor's codes are, or its first plane.
func codesOf(t *quant.Tensor) unsafe.Pointer {
	if t.Format == quant.Int8 {
		return unsafe.Pointer(unsafe.SliceData(t.Codes))
	}
	return unsafe.Pointer(unsafe.SliceData(t.Packed))
}

// Recode calls the kernel's recode.
func (b *Backend) Recode(k backends.Kernel, a *backends.Recode) (err error) {
	f, x := a.From, recodeBlocks.Get().(*block[recodeArgs])
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.from, p.to, p.rows, p.cols = uint32(f.Format), uint32(a.To.Format), int64(f.Rows), int64(f.Cols)
	p.codes, p.signs, p.index, p.out = codesOf(f), unsafe.SliceData(f.Signs), unsafe.SliceData(f.Index), codesOf(a.To)
	if rc := x.invoke(b, k); rc != statusOK {
		err = b.failure(k, rc, &p.call, nil, nil)
	}
	p.cancel, p.codes, p.signs, p.index, p.out = nil, nil, nil, nil, nil
	recodeBlocks.Put(x)
	return err
}

// Ternary calls the kernel's ternary matmul.
func (b *Backend) Ternary(k backends.Kernel, a *backends.Ternary) (err error) {
	w, x := a.W, ternaryBlocks.Get().(*ternaryBlock)
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.levels, p.format = uint32(w.Levels), uint32(w.Format)
	p.codes = codesOf(w)
	p.signs, p.index, p.scales = unsafe.SliceData(w.Signs), unsafe.SliceData(w.Index), unsafe.SliceData(w.Scales)
	p.rows, p.cols, p.group = int64(w.Rows), int64(w.Cols), int64(w.Group)
	p.x, p.xScales, p.batch, p.out = unsafe.SliceData(a.X.Codes), unsafe.SliceData(a.X.Scales), int64(a.X.Rows), operand(a.Out, a.OutAt)
	p.workspace, p.workspaceSize = nil, 0
	rc := x.invoke(b, k) // asks for the size of the workspace
	if rc == statusOK {
		p.workspace, rc = room(&x.workspace, p.workspaceSize)
	}
	if rc == statusOK {
		rc = x.invoke(b, k)
	}
	if rc != statusOK {
		err = b.failure(k, rc, &p.call, nil, nil)
		var e *backends.Error
		if errors.As(err, &e) {
			e.Shape = a.Shape()
		}
	}
	p.cancel, p.codes, p.signs, p.index, p.scales, p.x, p.xScales, p.out = nil, nil, nil, nil, nil, nil, nil, nil
	ternaryBlocks.Put(x)
	return err
}
