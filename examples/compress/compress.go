// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/plan"
	setun "github.com/setun-compute/setun/runtime"
)

// job is one run of compress.
type job struct {
	o       *options
	src     source
	list    []tensor
	choices []choice
	stats   []stats // of what was written
	scales  []int64 // bytes of each tensor's scales in an .stn file
	out     *output
	e       *encoder
	hist    *histogram // nil unless it is wanted
}

// compress does the work of the command line.
func compress(ctx context.Context, o *options, p *progress) (*report, error) {
	if o.demo != "" {
		p.show("making %s", o.in)
		if err := demo(o.in, o.demo); err != nil {
			return nil, err
		}
	}
	p.show("opening %s", o.in)
	src, err := openSource(ctx, o.in)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	rt, err := setun.Open()
	if err != nil {
		return nil, err
	}
	defer rt.Close() // before the values go
	j := &job{o: o, src: src, e: &encoder{rt: rt, src: src, p: p, halfOnly: !o.ours()}}
	inputs := []string{o.in}
	for _, t := range src.tensors() {
		if !slices.Contains(inputs, t.path) {
			inputs = append(inputs, t.path) // one of several that an index names
		}
		if _, dropped := o.drop.match(t.name); !dropped {
			j.list = append(j.list, t)
		}
	}
	if len(j.list) == 0 {
		return nil, fmt.Errorf("%s: it has no tensors, or none is left", o.in)
	}
	if err := checkPicture(o.histogram, o.out, inputs, o.force); err != nil {
		return nil, err
	}
	if j.out, err = newOutput(o.in, o.out, o.force); err != nil {
		return nil, err
	}
	defer j.out.discard()
	if j.choices, err = choose(o, src, j.list); err != nil {
		return nil, err
	}
	var chosen *plan.Plan
	if o.planned() {
		chosen, err = j.within(ctx)
	} else {
		err = j.write(ctx)
	}
	if err != nil {
		return nil, err
	}
	r, err := j.report(chosen)
	if err != nil {
		return nil, err
	}
	if o.verify {
		if r.Verified, err = j.verify(ctx); err != nil {
			return nil, err
		}
	}
	if o.cluster > 0 {
		if r.Clusters, err = j.clusters(ctx, r); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.histogram != "" {
		p.show("drawing %s", o.histogram)
		if err := j.hist.write(o.histogram, o.in); err != nil {
			return nil, err
		}
	}
	return r, j.out.publish()
}

// write writes all tensors as they were chosen to be.
func (j *job) write(ctx context.Context) error {
	if j.o.histogram != "" {
		j.hist = new(histogram)
	}
	total := int64(0)
	for i := range j.list {
		total += j.list[i].size
	}
	j.e.p.start("writing", total)
	s, err := newSink(j.out.file(), j.src, j.list, j.choices)
	if err != nil {
		return j.rename(err)
	}
	defer s.Abort()
	j.stats = make([]stats, len(j.list))
	for i := range j.list {
		if err := j.tensor(ctx, s, i); err != nil {
			return j.rename(err)
		}
	}
	return j.rename(s.Close())
}

// rename makes an error about the hidden file one about the file that was asked for.
func (j *job) rename(err error) error {
	if err == nil || !strings.Contains(err.Error(), j.out.temp.Path) {
		return err
	}
	return &renamed{strings.ReplaceAll(err.Error(), j.out.file(), j.out.path), err}
}

type renamed struct {
	text string
	err  error
}

func (r *renamed) Error() string { return r.text }
func (r *renamed) Unwrap() error { return r.err }

func (j *job) tensor(ctx context.Context, s sink, i int) error {
	t, c, st := &j.list[i], &j.choices[i], &j.stats[i]
	if err := s.begin(t, c); err != nil {
		return j.e.about(t, err)
	}
	var err error
	switch {
	case c.copied:
		var data []byte
		if data, err = j.src.bytes(t.index); err == nil {
			err = s.bytes(data)
		}
		st.n = t.values()
		j.e.p.tensor(t.name, t.size, t.size)
	case c.kind == plan.Quantized:
		err = j.e.each(ctx, t, *c, func(_ int, q *quant.Tensor, x []float32) error {
			st.add(q, x)
			if j.o.cluster > 0 && c.group == t.cols {
				st.scales = append(st.scales, q.Scales...)
			}
			if j.hist != nil {
				j.hist.add(q, x)
			}
			return s.codes(q)
		})
	default:
		err = j.e.chunks(ctx, t, false, func(first int, x []float32) error {
			st.n += int64(len(x))
			if c.kind == plan.F16 {
				if at := slices.IndexFunc(x, func(v float32) bool { return max(v, -v) >= 65520 && v-v == 0 }); at >= 0 {
					return t.fail(t.at(int64(first)*int64(t.cols)+int64(at)), "%v is beyond the range of f16", x[at])
				}
			}
			return s.values(x)
		})
	}
	if err != nil {
		return err
	}
	return s.end()
}

// fileSize returns the bytes of the file so far.
func (j *job) fileSize() (int64, error) {
	info, err := os.Stat(j.out.file())
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// floats returns what all tensors take as float32.
func (j *job) floats() int64 {
	n := int64(0)
	for i := range j.list {
		n += 4 * j.list[i].values()
	}
	return n
}
