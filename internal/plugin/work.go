// SPDX-License-Identifier: Apache-2.0

package plugin

import "sync"

// workBlock is a block with scratch memory for the kernel, which is kept with it.
type workBlock[A any] struct {
	*block[A]
	work []float64
}

func workPool[A any](common func(*A) *call) *sync.Pool {
	return &sync.Pool{New: func() any { return &workBlock[A]{block: newBlock(common)} }}
}

// scratch returns the address of n values, of any content.
func (x *workBlock[A]) scratch(n int) *float64 {
	if len(x.work) < n {
		x.work = make([]float64, n)
	}
	return &x.work[0]
}
