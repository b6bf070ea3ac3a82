// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// TestDamageIsFoundWhereItIs: rows on whole pages can be read, others say what is wrong; without checksums, all can.
func TestDamageIsFoundWhereItIs(t *testing.T) {
	q := random(rand.New(rand.NewPCG(13, 1)), quant.Ternary, 800, 8000, 0, 0.4)
	f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, q, Base3) })
	data := slices.Clone(f.data)
	at := prefix + 2*page + 1000
	data[at] ^= 1
	if !base3Valid[data[at]] {
		data[at] ^= 3
	}
	damaged := must(parse(data, Options{}))(t)
	same(t, "the first rows", must(damaged.Rows("w", 0, 300, nil))(t), part(q, 0, 300))
	var e *Error
	if _, err := damaged.Rows("w", 300, 100, nil); !errors.Is(err, ErrChecksum) || !errors.As(err, &e) || e.Tensor != "w" || e.Offset != prefix+2*page {
		t.Errorf("damage in page 2: %v", err)
	}
	if err := damaged.Verify(); !errors.Is(err, ErrChecksum) {
		t.Errorf("damage in page 2: %v", err)
	}
	if _, err := must(parse(data, Options{NoChecksums: true}))(t).Tensor("w", nil); err != nil {
		t.Errorf("without checksums: %v", err)
	}
}

// TestReadersTogether reads everything from several goroutines at once.
func TestReadersTogether(t *testing.T) {
	f := must(parse(sample(t), Options{}))(t)
	done := make(chan error)
	for range 8 {
		go func() { done <- readAll(f) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRowsAllocateNothing, once dst and the workspace are there.
func TestRowsAllocateNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	f := must(parse(sample(t), Options{}))(t)
	for _, i := range f.Tensors() {
		if i.Kind != Quantized {
			continue
		}
		var dst quant.Tensor
		if n := testing.AllocsPerRun(10, func() { f.Rows(i.Name, 1, 2, &dst) }); n > 1 { // the pool may be emptied in between
			t.Errorf("%s: %v allocations", i.Name, n)
		}
	}
}

// TestBlocks: the blocks are the symbols, and are those that Tensor reads.
func TestBlocks(t *testing.T) {
	q := random(rand.New(rand.NewPCG(5, 1)), quant.Ternary, 7, 60000, 0, 0.4)
	f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, q, RANS) })
	all := must(f.Tensor("w", nil))(t).Packed
	n := must(f.Blocks("w"))(t)
	var got, block []byte
	for b := range n {
		block = must(f.Block("w", b, block))(t)
		got = append(got, block...)
	}
	if n != 3 || !bytes.Equal(got, all) {
		t.Errorf("%d blocks of %d bytes, want %d bytes", n, len(got), len(all))
	}
	for _, b := range []int{-1, n} {
		if _, err := f.Block("w", b, nil); !errors.Is(err, ErrArgument) {
			t.Errorf("block %d: %v", b, err)
		}
	}
}

func TestFloats(t *testing.T) {
	values := []float32{0, 1, -2.5, 65504, float32(math.Inf(1)), 0x1p-24, float32(math.Copysign(0, -1)), 3.140625}
	f := write(t, nil, func(w *Writer) error {
		return errors.Join(w.AddFloats("f32", []int64{2, 2, 2}, F32, values), w.AddFloats("f16", []int64{8}, F16, values),
			w.AddFloats("bf16", []int64{8}, BF16, values[:8]), w.AddFloats("one", nil, F32, values[1:2]))
	})
	bits := func(v []float32) (b []uint32) {
		for _, x := range v {
			b = append(b, math.Float32bits(x))
		}
		return b
	}
	rounded := slices.Clone(values)
	rounded[3] = 65536 // bfloat16 has eight digits
	for name, want := range map[string][]float32{"f32": values, "f16": values, "bf16": rounded, "one": {1}} {
		got := must(f.Floats(name, nil))(t)
		if !slices.Equal(bits(got), bits(want)) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		mapped, ok, err := f.FloatsMapped(name)
		if err != nil || ok != (name == "f32" || name == "one") || ok && !slices.Equal(bits(mapped), bits(want)) {
			t.Errorf("%s: mapped %v, %v, %v", name, mapped, ok, err)
		}
		if _, err := f.Tensor(name, nil); !errors.Is(err, ErrArgument) {
			t.Errorf("%s as codes: %v", name, err)
		}
	}
	if _, err := f.Floats("no", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
