// SPDX-License-Identifier: Apache-2.0

package stn

import "github.com/setun-compute/setun/quant"

// counter counts what is written.
type counter int64

func (c *counter) Write(data []byte) (int, error) {
	*c += counter(len(data))
	return len(data), nil
}

// Smallest returns the coding in which the codes of a tensor take the fewest bytes, and how many: it encodes them with each that could be the smallest. Of equal ones it is the one
// that is faster to read.
// Errors wrap ErrArgument: a tensor that does not Check, or that Writer.Add refuses for its codes.
func Smallest(t *quant.Tensor) (Coding, int64, error) {
	if err := checkTensor(t); err != nil {
		return 0, 0, err
	}
	candidates := []Coding{Base3, Planes, RANS}
	switch t.Levels {
	case quant.Quinary:
		candidates = []Coding{Int8, RANS}
	case quant.Sparse:
		candidates = []Coding{Four5, Planes, RANS}
	}
	var best Coding
	var size int64
	for _, c := range candidates {
		n, err := encodedSize(t, c)
		if err != nil {
			return 0, 0, err
		}
		if best == 0 || n < size {
			best, size = c, n
		}
	}
	return best, size, nil
}

func encodedSize(t *quant.Tensor, c Coding) (int64, error) {
	s := stream{info: Info{Kind: Quantized, Levels: t.Levels, Coding: c, Rows: t.Rows, Cols: t.Cols, Group: t.Group, Pack: 1}}
	if c == RANS {
		s.info.Pack = packFor(t.Levels, t.Rows, t.Cols)
	}
	if err := s.accept(t); err != nil {
		return 0, err
	}
	var n counter
	coder := newCoder(&s.info, &n)
	if err := coder.add(t); err != nil {
		return 0, err
	}
	index, err := coder.finish()
	return int64(n) + int64(len(index)), err
}
