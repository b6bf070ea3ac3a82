// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/safetensors"
	"github.com/setun-compute/setun/quant/stn"
)

// decompress turns an .stn file into float32 values.
func decompress(ctx context.Context, o *options, p *progress) (*report, error) {
	p.show("opening %s", o.in)
	f, err := stn.Open(o.in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, err := newOutput(o.in, o.out, o.force)
	if err != nil {
		return nil, err
	}
	defer out.discard()
	var list []stn.Info
	r := &report{Input: o.in, Output: o.out, InputBytes: f.Size()}
	for _, t := range f.Tensors() {
		if _, dropped := o.drop.match(t.Name); !dropped {
			list = append(list, t)
			r.Float32 += 4 * t.Values()
		}
	}
	var header []byte
	if ext(o.out) == ".npy" {
		header, err = npyHeader(o.in, list)
	} else {
		header, err = safetensorsHeader(o.in, list, f.Metadata())
	}
	if err != nil {
		return nil, err
	}
	p.start("reading", r.Float32)
	err = durable.Write(out.file(), 0o644, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		b.Write(header) // Flush tells of errors
		r.Bytes += int64(len(header))
		for i := range list {
			if err := floatsOf(ctx, f, &list[i], p, b); err != nil {
				return err
			}
			r.Bytes += 4 * list[i].Values()
		}
		return b.Flush()
	})
	if err != nil {
		return nil, &renamed{strings.ReplaceAll(err.Error(), out.file(), o.out), err}
	}
	r.Compression, r.Seconds = share(float64(r.Float32), float64(r.Bytes)), time.Since(p.begin).Seconds()
	return r, out.publish()
}

// floatsOf writes the values of a tensor, some rows at a time where it has codes.
func floatsOf(ctx context.Context, f *stn.File, t *stn.Info, p *progress, w io.Writer) error {
	size := 4 * t.Values()
	if t.Kind != stn.Quantized {
		x, err := f.Floats(t.Name, nil)
		if err != nil {
			return err
		}
		p.tensor(t.Name, size, size)
		return writeFloats(w, x)
	}
	var q *quant.Tensor
	rows := max(1, (1<<22)/t.Cols)
	x := make([]float32, min(rows, t.Rows)*t.Cols)
	for first := 0; first < t.Rows; first += rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(rows, t.Rows-first)
		var err error
		if q, err = f.Rows(t.Name, first, n, q); err != nil {
			return err
		}
		if _, err = q.Dequantize(x[:n*t.Cols]); err != nil {
			return err
		}
		if err := writeFloats(w, x[:n*t.Cols]); err != nil {
			return err
		}
		p.tensor(t.Name, 4*int64(first+n)*int64(t.Cols), size)
	}
	return nil
}

func writeFloats(w io.Writer, x []float32) error {
	buffer := make([]byte, 0, 1<<16)
	for len(x) > 0 {
		n := min(len(x), 1<<14)
		buffer = buffer[:0]
		for _, v := range x[:n] {
			buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(v))
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
		x = x[n:]
	}
	return nil
}

// metadataName is what a .safetensors file has its metadata under.
const metadataName = "__metadata__"

// safetensorsHeader describes tensors whose float32 values follow in this order. What readers of .safetensors refuse is an error.
func safetensorsHeader(path string, list []stn.Info, metadata map[string]string) ([]byte, error) {
	b := append(make([]byte, 8), '{')
	if len(metadata) > 0 {
		text, err := json.Marshal(metadata)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `"`+metadataName+`":`...), text...)
	}
	next := int64(0)
	for _, t := range list {
		if t.Name == metadataName {
			return nil, fmt.Errorf("%s: tensor %q: a .safetensors file has its metadata under that name; leave it out with -drop %q", path, t.Name, t.Name)
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		if len(b) > 9 {
			b = append(b, ',')
		}
		shape, err := json.Marshal(append([]int64{}, t.Shape...))
		if err != nil {
			return nil, err
		}
		b = fmt.Appendf(b, `%s:{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}`, name, shape, next, next+4*t.Values())
		next += 4 * t.Values()
		if len(b)-8 > safetensors.MaxHeader {
			break
		}
	}
	b = append(b, '}')
	for len(b)%64 != 0 {
		b = append(b, ' ')
	}
	if len(b)-8 > safetensors.MaxHeader {
		return nil, fmt.Errorf("%s: the header of a .safetensors file would be above %d bytes, which readers refuse; leave tensors out with -drop", path, safetensors.MaxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, nil
}

// npyHeader describes the one tensor of a file.
func npyHeader(path string, list []stn.Info) ([]byte, error) {
	if len(list) != 1 {
		return nil, fmt.Errorf("%s: it has %d tensors, an .npy file has one; write a .safetensors file, or leave others out with -drop", path, len(list))
	}
	shape := "("
	for i, n := range list[0].Shape {
		if i > 0 {
			shape += ", "
		}
		shape += fmt.Sprint(n)
	}
	if len(list[0].Shape) == 1 {
		shape += ","
	}
	text := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': %s), }", shape)
	text += strings.Repeat(" ", (64-(10+len(text)+1)%64)%64) + "\n"
	return append(binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(text))), text...), nil
}
