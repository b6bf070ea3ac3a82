// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train"
)

// control is a configuration that differs in one respect.
type control struct {
	name   string
	change func(*train.Config)
}

// controls of a configuration, those that change nothing in it left out; it comes first itself.
func controls(c train.Config) (list []control) {
	list = append(list, control{"as configured", func(*train.Config) {}})
	for _, x := range []control{
		{"fixed schedule", plain},
		{"float32, fixed schedule", func(c *train.Config) { plain(c); c.Ternary = false }},
		{"float32, fixed schedule, half the rate", func(c *train.Config) { plain(c); c.LearningRate, c.Ternary = halved(c), false }}, // its best is about half of ternary weights'
		{"float32 activations", func(c *train.Config) { c.Int8 = c.Int8 && !c.Ternary }},
		{"int8 activations", func(c *train.Config) { c.Int8 = c.Ternary }},
		{"ternary from the start", func(c *train.Config) { c.Start, c.Ramp, c.Precision = 0, 0, "" }},
		{"ternary from a tenth on", func(c *train.Config) { c.Start, c.Ramp = 0.1, 0.05 }},
		{"all layers together", func(c *train.Config) { c.Precision = "" }},
		{"layers by depth", func(c *train.Config) { c.Precision = ordered(c, "depth") }},
		{"layers by depth, last first", func(c *train.Config) { c.Precision = ordered(c, "depth-reversed") }},
		{"layers by sensitivity", func(c *train.Config) { c.Precision = ordered(c, "sensitivity") }},
		{"layers as suggested", func(c *train.Config) { c.Precision = ordered(c, "suggested") }},
		{"without trust region", func(c *train.Config) { c.Radius, c.Clusters = 0, 0 }},
		{"without clusters", func(c *train.Config) { c.Clusters = 0 }},
		{"without clusters of data", func(c *train.Config) { c.DataClusters, c.Curriculum = 0, false }},
		{"float32 gradients", func(c *train.Config) { c.Compress = "" }},
		{"without auxiliary network", func(c *train.Config) { c.Aux = false }},
	} {
		changed := c
		if x.change(&changed); changed != c {
			list = append(list, x)
		}
	}
	return list
}

// plain leaves out the parts that steer a run.
func plain(c *train.Config) {
	c.Radius, c.Clusters, c.DataClusters, c.Curriculum, c.Aux = 0, 0, 0, false, false
}

// halved is half the rate of a ternary model, and the rate of one that is not.
func halved(c *train.Config) float64 {
	if !c.Ternary {
		return c.LearningRate
	}
	return c.LearningRate / 2
}

// ordered is a schedule of layers where there is a ramp for it to order, else what the configuration says.
func ordered(c *train.Config, precision string) string {
	if !c.Ternary || c.Ramp == 0 {
		return c.Precision
	}
	return precision
}

// row is what a control came to, over its seeds.
type row struct {
	Name       string    `json:"name"`
	Validation []float64 `json:"validation_loss"` // by seed
	Mean       float64   `json:"mean"`
	Deviation  float64   `json:"deviation"` // of the seeds' losses; 0 for one
	Ratio      float64   `json:"ratio"`     // of the mean to that of the configuration itself
	Speed      float64   `json:"tokens_per_second"`
}

// compareAll trains the controls with equal seeds and tokens and prints a table.
func (c *command) compareAll(ctx context.Context, rt *runtime.Runtime, config train.Config, stdout, stderr io.Writer) error {
	var rows []row
	for _, x := range controls(config) {
		r := row{Name: x.name}
		tokens, seconds := 0.0, 0.0
		for seed := range max(1, c.seeds) {
			changed := config
			x.change(&changed)
			changed.Seed = config.Seed + uint64(seed)
			p := newProgress(stderr, changed.Steps)
			p.name = fmt.Sprintf("%s, seed %d: ", x.name, changed.Seed)
			s, _, err := train.Run(ctx, rt, changed, train.Options{Progress: p.step, Warn: p.warn, Peers: c.peers, Mapped: c.device != ""})
			p.end()
			if err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
			r.Validation = append(r.Validation, s.Validation)
			tokens, seconds = tokens+float64(s.Tokens), seconds+s.Seconds
		}
		for _, v := range r.Validation {
			r.Mean += v / float64(len(r.Validation))
		}
		for _, v := range r.Validation {
			r.Deviation += (v - r.Mean) * (v - r.Mean) / math.Max(1, float64(len(r.Validation)-1))
		}
		r.Deviation, r.Speed = math.Sqrt(r.Deviation), tokens/seconds
		rows = append(rows, r)
		rows[len(rows)-1].Ratio = r.Mean / rows[0].Mean
	}
	if c.json {
		return printJSON(stdout, rows)
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tvalidation loss\t±\t× as configured\ttokens/s\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.4f\t%.4f\t%.4f\t%.0f\t\n", r.Name, r.Mean, r.Deviation, r.Ratio, r.Speed)
	}
	return w.Flush()
}
