// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// sample is a small file with a tensor of each coding and kind.
func sample(t testing.TB) []byte {
	r := rand.New(rand.NewPCG(8, 1))
	path := t.TempDir() + "/x.stn"
	w, err := Create(path, map[string]string{"key": "value"})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []quant.Levels{quant.Ternary, quant.Quinary, quant.Sparse} {
		for _, c := range allCodings {
			if c.fits(l) {
				if err := w.Add(fmt.Sprintf("%v %v", l, c), nil, random(r, l, 3, 70, 35, 0.4), c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := errors.Join(w.AddFloats("f32", []int64{3}, F32, []float32{1, 2, 3}), w.AddFloats("f16", []int64{3}, F16, []float32{1, 2, 3}), w.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// split takes a good file apart; join puts sections and header together, with checksums that are right.
func split(data []byte) (sections []byte, header string, count int) {
	foot := data[len(data)-footer:]
	end, n := binary.LittleEndian.Uint64(foot), int(binary.LittleEndian.Uint64(foot[8:]))
	return data[prefix:end], string(data[len(data)-footer-n : len(data)-footer]), int(binary.LittleEndian.Uint32(foot[16:]))
}

func join(sections []byte, header string, count int) []byte {
	var out bytes.Buffer
	b := newBody(&out)
	b.Write(sections)
	b.finish([]byte(header), count)
	return out.Bytes()
}

// readAll reads all that a file has, in each way.
func readAll(f *File) error {
	err := f.Verify()
	for _, i := range f.Tensors() {
		if i.Kind != Quantized {
			_, e := f.Floats(i.Name, nil)
			_, _, e2 := f.FloatsMapped(i.Name)
			err = errors.Join(err, e, e2)
			continue
		}
		q, e := f.Tensor(i.Name, nil)
		if err = errors.Join(err, e); e == nil {
			_, e = q.Convert(nil, quant.Int8)
			_, e2 := f.Rows(i.Name, i.Rows/2, 1, q)
			err = errors.Join(err, e, e2)
		}
		if i.blocks() == 0 {
			_, e := f.Mapped(i.Name)
			err = errors.Join(err, e)
		}
		if i.Coding == RANS {
			_, e := f.Block(i.Name, 0, nil)
			err = errors.Join(err, e)
		}
	}
	return err
}

// typed fails the test unless all errors joined in err are about the contents, and lie within the file.
func typed(t testing.TB, what string, err error, size int) {
	t.Helper()
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			typed(t, what, e, size)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Err != ErrFormat && e.Err != ErrChecksum && e.Err != ErrUnsupported && e.Err != ErrLimit || e.Offset < 0 || e.Offset > int64(size) {
		t.Fatalf("%s: untyped, or beyond the file: %v", what, err)
	}
}

func TestEveryCut(t *testing.T) {
	data := sample(t)
	for n := range data {
		f, err := parse(data[:n:n], Options{})
		if err == nil {
			t.Fatalf("cut after %d bytes of %d: %v", n, len(data), f.Tensors())
		}
		typed(t, fmt.Sprintf("cut after %d bytes", n), err, n)
	}
}

func TestEveryBit(t *testing.T) {
	data := sample(t)
	if f, err := parse(data, Options{}); err != nil || readAll(f) != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 13
	}
	for bit := 0; bit < 8*len(data); bit += step {
		data[bit/8] ^= 1 << (bit % 8)
		f, err := parse(data, Options{})
		if err == nil {
			err = readAll(f)
		}
		if err == nil {
			t.Fatalf("bit %d of byte %d flipped, and nobody sees it", bit%8, bit/8)
		}
		typed(t, fmt.Sprintf("bit %d", bit), err, len(data))
		if f, err := parse(data, Options{NoChecksums: true}); err == nil {
			readAll(f) // must not panic
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzOpen(f *testing.F) {
	data := sample(f)
	sections, header, count := split(data)
	f.Add(sections, header, count, false)
	f.Add(sections, header, count, true)
	f.Add([]byte{}, `{"metadata":{},"tensors":[]}`, 0, false)
	f.Add(append([]byte("\x80\x80"), make([]byte, 126)...), `{"metadata":{"x":"\u0000"},"tensors":[{"name":"w","shape":[2,5],"kind":"ternary","coding":"base3","cols":5,"group":0,"scales":"f32","sections":[[64,2],[128,4]]}]}`, 1, false)
	f.Fuzz(func(t *testing.T, sections []byte, header string, count int, raw bool) {
		data := sections
		if !raw { // with checksums that are right, so that what lies behind them is reached
			data = join(sections[:len(sections)/64*64], header, count)
		}
		file, err := parse(data, Options{MaxBytes: 1 << 20})
		if err == nil {
			err = readAll(file)
		}
		if err != nil {
			typed(t, "fuzz", err, len(data))
			return
		}
		// What can be read is written again, and comes back the same.
		w, err := Create(t.TempDir()+"/x.stn", file.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for _, i := range file.Tensors() {
			if i.Kind == Quantized {
				q, err := file.Tensor(i.Name, nil)
				if err == nil {
					err = w.Add(i.Name, i.Shape, q, i.Coding)
				}
				if err != nil && i.Levels != quant.Sparse { // int8 codes of Sparse need not be that
					t.Fatal(err)
				}
			}
		}
	})
}
