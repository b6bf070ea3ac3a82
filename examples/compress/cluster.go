// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/setun-compute/setun/internal/floats"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/plan"
	setun "github.com/setun-compute/setun/runtime"
)

// clustered is what one scale for each of some clusters of rows would bring a tensor that has one a row.
type clustered struct {
	Name         string  `json:"name"`
	Clusters     int     `json:"clusters"`
	Bytes        int64   `json:"bytes"`         // as written
	Clustered    int64   `json:"clustered"`     // with a table of scales, a number of ⌈log2 clusters⌉ bits a row, and codes for those scales
	Relative     float64 `json:"relative"`      // error as written
	RelativeThen float64 `json:"relative_then"` // with the shared scales
	ScaleBits    float64 `json:"scale_bits"`    // bits a value that scales take as written
	Brings       bool    `json:"brings"`        // fewer bytes at an error that is no larger by more than a part in a thousand
}

// clusters groups the rows of each tensor by their scales, with the runtime's k-means, and counts what that would bring. Nothing is changed.
func (j *job) clusters(ctx context.Context, r *report) ([]clustered, error) {
	var list []clustered
	for i := range j.list {
		t, c, st := &j.list[i], &j.choices[i], &j.stats[i]
		if c.kind != plan.Quantized || c.group != t.cols || t.rows < 2 || c.rule == quant.Magnitude {
			continue
		}
		k := min(j.o.cluster, t.rows)
		j.e.p.show("clustering the rows of %s", t.name)
		found, err := j.e.rt.KMeans(ctx, nil, st.scales, 1, setun.KMeansOptions{K: k})
		if err != nil {
			return nil, j.e.about(t, err)
		}
		table := make([]float32, k)
		for n, s := range found.Centroids {
			if table[n] = floats.Half(floats.ToHalf(s)); s < 0x1p-14 || s >= 65520 {
				table[n] = s
			}
		}
		then, err := j.shared(ctx, t, c, table, found.Labels)
		if err != nil {
			return nil, err
		}
		now := r.Tensors[i].Bytes
		scales := j.scales[i]
		labels := int64(math.Ceil(math.Log2(float64(k)) * float64(t.rows) / 8))
		codes := float64(now-scales) * share(then.entropy(), st.entropy()) // the coding's loss over the entropy stays what it is
		if r.Tensors[i].Coding != "rans" && r.Tensors[i].Coding != "planes" {
			codes = float64(now - scales)
		}
		one := clustered{Name: t.name, Clusters: k, Bytes: now, Clustered: int64(codes) + 2*int64(k) + labels, Relative: st.relative(), RelativeThen: then.relative(),
			ScaleBits: share(8*float64(scales), float64(t.values()))}
		one.Brings = one.Clustered < one.Bytes && one.RelativeThen <= one.Relative*1.001
		list = append(list, one)
	}
	return list, nil
}

// shared measures a tensor whose rows have the scales of their clusters.
func (j *job) shared(ctx context.Context, t *tensor, c *choice, table []float32, labels []int32) (*stats, error) {
	then := new(stats)
	quiet := newProgress(nil, true)
	pass := encoder{src: j.src, p: quiet, x: j.e.x}
	q := &quant.Tensor{Rows: 1, Cols: t.cols, Levels: c.levels, Format: quant.Int8, Codes: make([]int8, t.cols), Scales: make([]float32, 1)}
	return then, pass.chunks(ctx, t, true, func(first int, x []float32) error {
		for r := first; len(x) > 0; r, x = r+1, x[t.cols:] {
			q.Scales[0] = table[labels[r]]
			if c.levels == quant.Sparse {
				quant.SparseCodes(q.Codes, x[:t.cols])
			} else {
				plan.Codes(q.Codes, x[:t.cols], q.Scales[0], c.levels)
			}
			then.add(q, x[:t.cols])
		}
		return nil
	})
}

func (r *report) clustersText(b *strings.Builder) {
	if len(r.Clusters) == 0 {
		return
	}
	fmt.Fprintln(b, "one scale for each cluster of rows instead of one a row (an estimate; nothing was changed):")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tensor\tclusters\tscales now\tbytes\tthen\tMSE/x²\tthen\tworth it")
	for _, c := range r.Clusters {
		fmt.Fprintf(w, "%s\t%d\t%.4f bits\t%d\t%d\t%.5f\t%.5f\t%s\n", c.Name, c.Clusters, c.ScaleBits, c.Bytes, c.Clustered, c.Relative, c.RelativeThen, map[bool]string{true: "yes", false: "no"}[c.Brings])
	}
	w.Flush()
}
