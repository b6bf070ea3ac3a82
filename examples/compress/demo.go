// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/quant/stn"
)

// demoSize is the side of the square matrix that -demo makes: 16 Mi values.
const demoSize = 4096

// demo makes the .npy file of -demo: values of variance 4·10⁻⁴ from a distribution that weights are like.
func demo(path, distribution string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already; leave -demo out to use it", path)
	}
	header, err := npyHeader(path, []stn.Info{{Shape: []int64{demoSize, demoSize}}})
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 158))
	draw := r.NormFloat64
	if distribution == "laplace" {
		draw = func() float64 {
			v := r.ExpFloat64() / math.Sqrt2
			if r.Uint64()&1 == 0 {
				return -v
			}
			return v
		}
	}
	return durable.Write(path, 0o644, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		b.Write(header) // Flush tells of errors
		row := make([]float32, demoSize)
		for range demoSize {
			for i := range row {
				row[i] = float32(0.02 * draw())
			}
			if err := writeFloats(b, row); err != nil {
				return err
			}
		}
		return b.Flush()
	})
}
