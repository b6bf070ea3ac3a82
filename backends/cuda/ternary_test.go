// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// Products with packed codes by blocks: rows of codes that are aligned to 16 bytes, to 4 and to none, whose last block has planes of any length, and activations likewise; scales of groups that end with blocks, between
// 64 columns and anywhere, below 64 columns too; few activations and many.
func TestTernaryBlocks(t *testing.T) {
	b := device(t)
	var kernel backends.Kernel
	for _, k := range b.Kernels() {
		if k.Op == backends.OpTernary {
			kernel = k
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, cols := range []int{64, 256, 320, 336, 592, 640, 1008, 1111, 1383, 4096} {
		for _, batch := range []int{1, 9, 33} {
			rows := 1 + r.IntN(40)
			x := &quant.Activations{Rows: batch, Cols: cols, Codes: make([]int8, batch*cols), Scales: make([]float32, batch)}
			for i := range x.Codes {
				x.Codes[i] = int8(r.IntN(256) - 128)
			}
			for i := range x.Scales {
				x.Scales[i] = float32(r.ExpFloat64())
			}
			for _, group := range []int{0, cols, 320, 128, 64, 70, 63} {
				if group > cols || batch > 1 && cols > 1111 || group == 63 && (batch > 1 || cols > 640) { // what takes long here
					continue
				}
				plain := quant.Tensor{Rows: rows, Cols: cols, Levels: quant.Ternary, Format: quant.Int8, Group: group, Codes: make([]int8, rows*cols)}
				plain.Scales = make([]float32, quant.ScaleCount(rows, cols, group))
				for i := range plain.Codes {
					plain.Codes[i] = int8(r.IntN(3) - 1)
				}
				for i := range plain.Scales {
					plain.Scales[i] = float32(r.NormFloat64())
				}
				var want []float32
				for _, format := range []quant.Format{quant.Int8, quant.Bits2, quant.Base3} {
					w, err := plain.Convert(nil, format)
					if err != nil {
						t.Fatal(err)
					}
					if want == nil {
						want = make([]float32, batch*rows)
						if err := (cpu.Backend{}).Ternary(backends.Kernel{}, &backends.Ternary{W: w, X: x, Out: want}); err != nil {
							t.Fatal(err)
						}
					}
					got := make([]float32, batch*rows)
					if err := b.Ternary(kernel, &backends.Ternary{W: w, X: x, Out: got}); err != nil || !slices.Equal(got, want) {
						t.Errorf("%s group %d: not the bits of pure Go, %v", fmt.Sprintf("%dx%dx%d %v", rows, cols, batch, format), group, err)
					}
				}
			}
		}
	}
}
