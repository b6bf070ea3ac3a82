// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"fmt"

	"github.com/setun-compute/setun/quant"
)

// counter counts what is written.
type counter int64

func (c *counter) Write(data []byte) (int, error) {
	*c += counter(len(data))
	return len(data), nil
}

// classesSave is the part of the bytes that Classes must save to be taken: it is slower to read and to write than RANS.
const classesSave = 256

// Smallest returns the coding in which the codes of a tensor take the fewest bytes, and how many: it encodes them with each that could be the smallest. Of equal ones it is the one
// that is faster to read; Classes, the slowest, must save one byte of 256.
// Errors wrap ErrArgument: a tensor that does not Check, or that Writer.Add refuses for its codes.
func Smallest(t *quant.Tensor) (Coding, int64, error) {
	if err := checkTensor(t); err != nil {
		return 0, 0, err
	}
	candidates := []Coding{Base3, Planes, RANS, Classes}
	switch t.Levels {
	case quant.Quinary:
		candidates = []Coding{Int8, RANS}
	case quant.Sparse:
		candidates = []Coding{Four5, Planes, RANS}
	}
	var best Coding
	var size int64
	for _, c := range candidates {
		n, err := EncodedSize(t, c)
		if err != nil {
			return 0, 0, err
		}
		least := n
		if c == Classes {
			least += n / classesSave
		}
		if best == 0 || least < size {
			best, size = c, n
		}
	}
	return best, size, nil
}

// EncodedSize returns the bytes that a tensor's codes and index take in a coding, which it finds by encoding them. Errors: ErrArgument for a tensor whose fields contradict each other or whose levels the coding does not hold.
func EncodedSize(t *quant.Tensor, c Coding) (int64, error) {
	if t == nil {
		return 0, fmt.Errorf("no tensor: %w", ErrArgument)
	}
	s := stream{info: Info{Kind: Quantized, Levels: t.Levels, Coding: c, Rows: t.Rows, Cols: t.Cols, Group: t.Group, Pack: 1}}
	if c == RANS {
		s.info.Pack = packFor(t.Levels, t.Rows, t.Cols)
	}
	if err := s.accept(t); err != nil {
		return 0, err
	}
	if !c.fits(t.Levels) {
		return 0, fmt.Errorf("%v codes as %v: %w", t.Levels, c, ErrArgument)
	}
	var n counter
	coder := newCoder(&s.info, &n)
	if err := coder.add(t); err != nil {
		return 0, err
	}
	index, err := coder.finish()
	return int64(n) + int64(len(index)), err
}
