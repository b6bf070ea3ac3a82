// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/plan"
	"github.com/setun-compute/setun/quant/stn"
)

// report is what -json prints.
type report struct {
	Input       string  `json:"input"`
	Output      string  `json:"output"`
	InputBytes  int64   `json:"input_bytes"`   // of the tensors in the input
	Float32     int64   `json:"float32_bytes"` // of all values as float32
	Bytes       int64   `json:"bytes"`         // of the file that was written, all of it
	Compression float64 `json:"compression"`   // float32_bytes / bytes

	Tensors   []row       `json:"tensors,omitempty"`
	Quantized *total      `json:"quantized,omitempty"` // the tensors of codes alone, scales and indices included
	Budget    *budget     `json:"budget,omitempty"`
	Verified  *verified   `json:"verified,omitempty"`
	Clusters  []clustered `json:"clusters,omitempty"`
	Seconds   float64     `json:"seconds"`

	plan string
}

// row is one tensor.
type row struct {
	Name        string  `json:"name"`
	Shape       []int64 `json:"shape"`
	Levels      string  `json:"levels"` // or the floating-point type
	Rule        string  `json:"rule,omitempty"`
	Group       int     `json:"group,omitempty"` // values that share a scale; absent when all do
	Coding      string  `json:"coding,omitempty"`
	Why         string  `json:"why,omitempty"` // it has no codes
	Bytes       int64   `json:"bytes"`
	Bits        float64 `json:"bits"`        // on disk, a value
	Compression float64 `json:"compression"` // 32 / bits
	measures
}

// measures compare values with what is stored for them; those of floating-point tensors are not taken.
type measures struct {
	Zeros     float64 `json:"zeros"`
	Entropy   float64 `json:"entropy"`   // bits a code
	Cosine    float64 `json:"cosine"`    // x·q/(‖x‖‖q‖)
	Relative  float64 `json:"relative"`  // ‖x − q‖²/‖x‖²
	Magnitude float64 `json:"magnitude"` // ‖q‖/‖x‖
	MaxError  float64 `json:"max_error"` // max |x − q|
}

func (s *stats) measures() measures {
	return measures{s.zeros(), s.entropy(), s.cosine(), s.relative(), s.magnitude(), s.worst}
}

// total is the tensors of codes together.
type total struct {
	Tensors     int     `json:"tensors"`
	Values      int64   `json:"values"`
	Bytes       int64   `json:"bytes"`
	Compression float64 `json:"compression"`
	Levels      string  `json:"levels"` // of all, or "quantized"
	measures
}

// budget says how a budget was used.
type budget struct {
	Bytes    int64   `json:"bytes,omitempty"`     // the limit of the file
	MaxError float64 `json:"max_error,omitempty"` // the limit of the relative error
	Relative float64 `json:"relative"`            // of all matrices that were chosen for, as planned
	Bound    float64 `json:"bound"`               // what no choice among the candidates is below: a relative error, or bytes
	Gap      float64 `json:"gap"`
	Optimal  bool    `json:"optimal"`
	Lambda   float64 `json:"lambda"` // error that the next byte would have saved
}

// report reads the sizes of what was written.
func (j *job) report(chosen *plan.Plan) (*report, error) {
	size, err := j.fileSize()
	if err != nil {
		return nil, err
	}
	sizes, codings, err := j.sizes()
	if err != nil {
		return nil, j.rename(err)
	}
	r := &report{Input: j.o.in, Output: j.o.out, Float32: j.floats(), Bytes: size, Compression: share(float64(j.floats()), float64(size)), Seconds: time.Since(j.e.p.begin).Seconds()}
	sum, all := total{}, stats{}
	for i := range j.list {
		t, c, st := &j.list[i], &j.choices[i], &j.stats[i]
		r.InputBytes += t.size
		w := row{Name: t.name, Shape: t.shape, Levels: c.kind.String(), Coding: codings[i], Why: c.why, Bytes: sizes[i], Bits: 8 * share(float64(sizes[i]), float64(t.values()))}
		w.Compression = share(32, w.Bits)
		switch {
		case c.copied:
			w.Levels = strings.ToLower(t.typ)
		case c.kind == plan.Quantized:
			w.Levels, w.Rule, w.Group, w.measures = c.levels.String(), c.rule.String(), c.group, st.measures()
			sum.Tensors, sum.Values, sum.Bytes = sum.Tensors+1, sum.Values+t.values(), sum.Bytes+sizes[i]
			if sum.Levels == "" {
				sum.Levels = w.Levels
			} else if sum.Levels != w.Levels {
				sum.Levels = "quantized"
			}
			all.join(st)
		}
		r.Tensors = append(r.Tensors, w)
	}
	if sum.Tensors > 0 {
		sum.Compression, sum.measures = share(4*float64(sum.Values), float64(sum.Bytes)), all.measures()
		r.Quantized = &sum
	}
	if chosen != nil {
		b := &budget{Bytes: j.o.bytes, MaxError: j.o.maxError, Relative: chosen.Relative, Bound: chosen.Bound, Gap: chosen.Gap, Optimal: chosen.Optimal, Lambda: chosen.Lambda}
		if j.o.ratio > 0 {
			b.Bytes = int64(float64(j.floats()) / j.o.ratio)
		}
		if b.Bytes > 0 && chosen.Error > 0 {
			b.Bound *= chosen.Relative / chosen.Error
		}
		r.Budget, r.plan = b, chosen.String()
	}
	return r, nil
}

// sizes returns the bytes and the coding of each tensor in the file.
func (j *job) sizes() (sizes []int64, codings []string, err error) {
	if !j.o.ours() {
		f, err := gguf.Open(j.out.file())
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		for i, t := range f.Tensors {
			sizes, codings = append(sizes, t.Size), append(codings, "")
			if j.choices[i].kind == plan.Quantized {
				codings[i] = t.Type.String()
			}
		}
		return sizes, codings, nil
	}
	f, err := stn.Open(j.out.file())
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for _, t := range f.Tensors() {
		sizes, codings, j.scales = append(sizes, t.Bytes()), append(codings, ""), append(j.scales, t.Scales.Size)
		if t.Kind == stn.Quantized {
			codings[len(codings)-1] = t.Coding.String()
		}
	}
	return sizes, codings, nil
}

// String is the report as people read it.
func (r *report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(r.Tensors) > 0 {
		fmt.Fprintln(w, "tensor\tshape\tlevels\trule\tscales\tcoding\tzeros\tentropy\tbits\tcosine\tMSE/x²\t‖q‖/‖x‖\tcompression")
		for _, t := range r.Tensors {
			shape := strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Shape), " ", "×"), "[]")
			if t.Rule == "" {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\t\t\t\t%.3f\t\t\t\t%.2fx\n", t.Name, shape, t.Levels, t.Why, t.Bits, t.Compression)
				continue
			}
			group := "tensor"
			if t.Group > 0 {
				group = fmt.Sprint("a ", t.Group)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f %%\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.2fx\n", t.Name, shape, t.Levels, t.Rule, group, t.Coding,
				100*t.Zeros, t.Entropy, t.Bits, t.Cosine, t.Relative, t.Magnitude, t.Compression)
		}
		w.Flush()
	}
	if q := r.Quantized; q != nil {
		fmt.Fprintf(&b, "%s tensors alone: %d values in %d bytes, %.2fx; zeros %.1f %%, entropy %.4f, cosine %.4f, MSE/x² %.4f, ‖q‖/‖x‖ %.4f\n", q.Levels, q.Values, q.Bytes, q.Compression,
			100*q.Zeros, q.Entropy, q.Cosine, q.Relative, q.Magnitude)
	}
	if r.plan != "" {
		fmt.Fprintf(&b, "the choice, by estimates from a sample of each tensor: %s", r.plan)
	}
	r.clustersText(&b)
	if v := r.Verified; v != nil {
		fmt.Fprintf(&b, "verified: %d codes, %d scales and %d values are what was computed; the largest |x − q| is %.6g, in %s\n", v.Codes, v.Scales, v.Values, v.MaxError, v.Worst)
	}
	if len(r.Tensors) == 0 {
		return fmt.Sprintf("%s: %d bytes from %d, in %.1f s\n", r.Output, r.Bytes, r.InputBytes, r.Seconds)
	}
	fmt.Fprintf(&b, "%s: %d bytes, headers and scales included, for %d as float32: %.2fx, in %.1f s\n", r.Output, r.Bytes, r.Float32, r.Compression, r.Seconds)
	return b.String()
}
