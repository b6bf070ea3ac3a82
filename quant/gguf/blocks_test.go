// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// TestBytesOfTQ1: the 243 numbers of five trits take 243 bytes, each of which gives its trits back; the other 13 are found, and so is a digit 3 in TQ2_0.
func TestBytesOfTQ1(t *testing.T) {
	made := map[byte]bool{}
	var codes, back [Block]int8
	var block [tq1Bytes]byte
	for v := range 243 {
		for n, power := 0, 81; n < 5; n, power = n+1, power/3 {
			codes[32*n] = int8(v/power%3) - 1
		}
		encodeTernary(TQ1_0, block[:], codes[:], 0x3c00)
		if d := decodeTernary(TQ1_0, block[:], &back); d != 1 || back != codes {
			t.Fatalf("%d: byte %d, scale %v", v, block[0], d)
		}
		if at, detail := checkTernary(TQ1_0, block[:]); at >= 0 {
			t.Fatalf("%d: %s", v, detail)
		}
		made[block[0]] = true
	}
	var never []int
	for b := range 256 {
		block[0] = byte(b)
		at, _ := checkTernary(TQ1_0, block[:])
		if (at == 0) == made[byte(b)] {
			t.Errorf("byte %d: found at %d", b, at)
		}
		if at == 0 {
			never = append(never, b)
		}
	}
	if !slices.Equal(never, []int{1, 20, 40, 60, 79, 99, 119, 138, 158, 178, 197, 217, 237}) {
		t.Errorf("never made: %v", never)
	}
}

func TestCheckTernary(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		at   int
		b    byte
		says string
	}{
		{TQ1_0, 54 + 3, 20, "a byte that five trits never make"},
		{TQ1_0, 54 + 51, 129, "a fifth trit in a byte of four"}, // 1·81 + 1·27 + 1·9 + 1·3 + 2
		{TQ1_0, 54 + 53, 0x7c, "not finite"},
		{TQ2_0, 66 + 0, 0x0c, "a digit 3"},
		{TQ2_0, 66 + 63, 0xc0, "a digit 3"},
		{TQ2_0, 65, 0xfe, "not finite"},
	} {
		_, size, _ := c.typ.Size()
		file := padded(forge(head(1, 0), "t", u32(1), u64(512), u32(c.typ), u64(0)), 2*size)
		begin := len(file) - 2*size
		f, err := Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.CheckTernary(0); err != nil {
			t.Fatal(err)
		}
		file[begin+c.at] = c.b
		offset := int64(begin + c.at)
		if strings.Contains(c.says, "finite") {
			offset-- // the scale's first byte
		}
		var q quant.Tensor
		for _, err := range []error{f.CheckTernary(0), f.Ternary(0, &q)} {
			var e *Error
			if !errors.Is(err, ErrFormat) || !errors.As(err, &e) || e.Offset != offset || e.Subject != `tensor "t"` || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, byte %d: %v", c.typ, c.at, err)
			}
		}
		if _, err := f.Floats(0, nil); err != nil { // as ggml
			t.Error(err)
		}
	}
	file := padded(forge(head(1, 0), "t", u32(1), u64(256), u32(TQ2_0), u64(0)), 66)
	file[len(file)-66], file[len(file)-1] = 3, 0x3c
	f, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Floats(0, nil); err != nil || got[0] != 2 || got[1] != -1 {
		t.Errorf("digits 3 and 0: %v, %v; ggml reads 2 and -1", got[:2], err)
	}
}

func BenchmarkFloats(b *testing.B) {
	for _, typ := range []Type{F32, F16, BF16, Q8_0, TQ1_0, TQ2_0} {
		block, size, _ := typ.Size()
		dst := make([]float32, 1<<16)
		data := make([]byte, len(dst)/block*size)
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				decode(typ, dst, data)
			}
		})
	}
}
