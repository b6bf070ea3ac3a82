// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/setun-compute/setun/internal/npy"
	setun "github.com/setun-compute/setun/runtime"
)

// report is what report.json holds.
type report struct {
	Input      string         `json:"input"`
	Type       string         `json:"type"` // of the file's values, "float32"
	Rows       int            `json:"rows"`
	Dim        int            `json:"dim"`
	Mapped     bool           `json:"mapped"` // or else in memory
	K          int            `json:"k"`
	Reason     string         `json:"reason,omitempty"` // of a k that -suggest chose
	Seed       uint64         `json:"seed"`
	Tol        float64        `json:"tol"`
	Inertia    float64        `json:"inertia"`
	Iterations int            `json:"iterations"`
	Converged  bool           `json:"converged"`
	Sizes      sizes          `json:"sizes"`
	Kernels    []setun.Metric `json:"kernels"`
	Seconds    float64        `json:"seconds"` // of k-means, with its start and without the files
	GFlops     float64        `json:"gflop_s"` // 2·rows·dim·k an iteration, over Seconds
}

// sizes tells how many rows the clusters have.
type sizes struct {
	Min       int64   `json:"min"`
	Median    float64 `json:"median"`
	Max       int64   `json:"max"`
	Histogram []bin   `json:"histogram"`
}

// bin counts the clusters of From to To rows.
type bin struct {
	From     int64 `json:"from"`
	To       int64 `json:"to"`
	Clusters int   `json:"clusters"`
}

func newReport(o *options, data *npy.Floats, c *setun.Clustering, kernels []setun.Metric, took time.Duration) *report {
	flops := 2 * float64(len(c.Labels)) * float64(c.Dim) * float64(c.K) * float64(c.Iterations)
	return &report{Input: o.file, Type: fmt.Sprintf("float%d", 8*data.Size), Rows: len(c.Labels), Dim: c.Dim, Mapped: data.Mapped, K: c.K, Seed: o.seed, Tol: o.tol,
		Inertia: c.Inertia, Iterations: c.Iterations, Converged: c.Converged, Sizes: measure(c.Counts), Kernels: kernels,
		Seconds: took.Seconds(), GFlops: flops / float64(took.Nanoseconds())}
}

// measure sorts the sizes of clusters into bins of equal width: at most ten, and no more than clusters.
func measure(counts []int64) sizes {
	sorted := slices.Sorted(slices.Values(counts))
	k := len(sorted)
	s := sizes{Min: sorted[0], Median: float64(sorted[(k-1)/2]+sorted[k/2]) / 2, Max: sorted[k-1]}
	width := (s.Max-s.Min)/int64(min(10, k)) + 1
	for from := s.Min; from <= s.Max; from += width {
		s.Histogram = append(s.Histogram, bin{From: from, To: min(from+width-1, s.Max)})
	}
	for _, n := range counts {
		s.Histogram[(n-s.Min)/width].Clusters++
	}
	return s
}

// String is the report as people read it.
func (r *report) String() string {
	var b strings.Builder
	how := "in memory"
	if r.Mapped {
		how = "mapped"
	}
	fmt.Fprintf(&b, "%s: %d rows of %d values (%s, %s) in %d clusters\n", r.Input, r.Rows, r.Dim, r.Type, how, r.K)
	if r.Reason != "" {
		fmt.Fprintf(&b, "k           %s\n", r.Reason)
	}
	end := "stopped by -iterations"
	if r.Converged {
		end = "converged"
	}
	fmt.Fprintf(&b, "inertia     %.6g, %.6g a row\n", r.Inertia, r.Inertia/float64(r.Rows))
	fmt.Fprintf(&b, "iterations  %d, %s\n", r.Iterations, end)
	fmt.Fprintf(&b, "sizes       from %d to %d rows, median %g\n", r.Sizes.Min, r.Sizes.Max, r.Sizes.Median)
	most := 0
	for _, h := range r.Sizes.Histogram {
		most = max(most, h.Clusters)
	}
	digits := len(fmt.Sprint(r.Sizes.Max))
	for _, h := range r.Sizes.Histogram {
		bar := strings.Repeat("█", (40*h.Clusters+most-1)/most)
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %*d … %*d rows: %4d clusters %s", digits, h.From, digits, h.To, h.Clusters, bar), " "))
	}
	for _, m := range r.Kernels {
		fmt.Fprintf(&b, "kernel      %s on %s", m.Op, m.Kernel)
		if m.Fallbacks > 0 {
			fmt.Fprintf(&b, ", which failed %d times", m.Fallbacks)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "time        %.3g s, %.3g GFLOP/s (2·rows·dim·k an iteration; the starting centroids count as time only)\n", r.Seconds, r.GFlops)
	return b.String()
}
