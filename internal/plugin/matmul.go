// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"sync"
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

// matmulArgs mirrors setun_matmul.
type matmulArgs struct {
	call
	flags, _                  uint32
	m, n, k                   int64
	a, b, c                   *float32
	lda, ldb, ldc             int64
	batch                     int64
	strideA, strideB, strideC int64
	workspace                 unsafe.Pointer
	workspaceSize             int64
}

// Flags of setun_matmul.
const (
	transA     = 1
	transB     = 2
	accumulate = 4
)

// matmulBlock keeps the workspace with the block, so that calls of one size allocate nothing.
type matmulBlock struct {
	*block[matmulArgs]
	workspace []byte
}

var matmulBlocks = sync.Pool{New: func() any {
	return &matmulBlock{block: newBlock(func(a *matmulArgs) *call { return &a.call })}
}}

// maxWorkspace is more than any call can have use for.
const maxWorkspace = 1 << 36

// room is the workspace that a kernel has asked for: from the first 64-byte boundary in the buffer, which it makes larger when need bytes do not fit behind that. What is no size is a failure of the library's.
func room(buffer *[]byte, need int64) (unsafe.Pointer, int32) {
	if need < 0 || need > maxWorkspace {
		return nil, statusWorkspace
	}
	if int64(len(*buffer)) < need+63 {
		*buffer = make([]byte, need+63)
	}
	base := unsafe.Pointer(unsafe.SliceData(*buffer))
	return unsafe.Add(base, -uintptr(base)&63), statusOK
}

// MatMul calls the kernel's matmul.
func (b *Backend) MatMul(k backends.Kernel, a *backends.MatMul) (err error) {
	x := matmulBlocks.Get().(*matmulBlock)
	p := &x.args
	p.cancel = flag(a.Cancel)
	p.flags = 0
	for _, f := range [...]struct {
		set bool
		bit uint32
	}{{a.TransA, transA}, {a.TransB, transB}, {a.Accumulate, accumulate}} {
		if f.set {
			p.flags |= f.bit
		}
	}
	p.m, p.n, p.k, p.batch = int64(a.M), int64(a.N), int64(a.K), int64(a.Batch)
	p.a, p.b, p.c = operand(a.A, a.AAt), operand(a.B, a.BAt), operand(a.C, a.CAt)
	p.lda, p.ldb, p.ldc = int64(a.LDA), int64(a.LDB), int64(a.LDC)
	p.strideA, p.strideB, p.strideC = int64(a.StrideA), int64(a.StrideB), int64(a.StrideC)
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
	p.cancel, p.a, p.b, p.c = nil, nil, nil, nil
	matmulBlocks.Put(x)
	return err
}
