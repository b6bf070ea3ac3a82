// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	setunmachine "github.com/setun-compute/setun/internal/machine"
)

// report is a whole run.
type report struct {
	Machine string   `json:"machine"`
	Threads int      `json:"threads"`
	When    string   `json:"when"` // RFC 3339
	Ours    []string `json:"ours"` // backends of the runtime, with how they were built
	Peers   []string `json:"peers"`
	Missing []string `json:"missing,omitempty"`
	Results []result `json:"results"`
}

func newReport(e *env, o options) *report {
	m := setunmachine.Detect()
	r := &report{Threads: o.threads, When: time.Now().UTC().Format(time.RFC3339), Peers: e.peers, Missing: e.missing,
		Machine: fmt.Sprintf("%s, %d cores, best level %s, %s/%s, %s", m.CPU, runtime.NumCPU(), m.Best(), m.OS, m.Arch, runtime.Version())}
	for _, b := range e.rt.Report().Backends {
		if b.State == "loaded" {
			r.Ours = append(r.Ours, fmt.Sprintf("%s %s %s", b.Name, b.Version, b.Build))
		}
	}
	return r
}

// notes are what a reader of the table has to know.
const notes = `Times and rates are medians; in brackets the quartiles. "setun is" says how many times as fast as the row's contender setun is: the median of the ratios
turn by turn, with quartiles. Rates: k-means and matmul 2·n·d·k operations, the rest input bytes (k-means update: the points). Lines in *italics* are bounds
of the machine. k-means: *fit* is a whole fit by its iterations (setun and scikit-learn label once more at the end and compute the inertia, FAISS does not),
*iteration* is one inside the loop, *assign* labels alone, *update* the difference of the two. *% exact*: the share of the scores that went through the canonical
chain; kernels that screen know of the others that they are not the greatest. kmeans clustered: rows about k centres, kernels of setun alone.
kmeans++: setun's time is the difference of a start with it and one with given centroids. NumPy uses one thread outside BLAS.
`

func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Setun and others, %s\n\nMachine: %s. Threads of each contender: %d.\n\n", r.When, r.Machine, r.Threads)
	for _, l := range []struct {
		title string
		lines []string
	}{{"setun", r.Ours}, {"peer", r.Peers}, {"left out", r.Missing}} {
		for _, s := range l.lines {
			fmt.Fprintf(w, "- %s: %s\n", l.title, s)
		}
	}
	fmt.Fprintf(w, "\n%s", notes)
	op := ""
	for i, v := range r.Results {
		if v.Op != op {
			op = v.Op
			fmt.Fprintf(w, "\n## %s\n\n| shape | figure | contender | ms | rate | setun is |\n|---|---|---|---|---|---|\n", op)
		}
		shape, fig := v.Shape, v.Figure
		if i > 0 && r.Results[i-1].Op == op && r.Results[i-1].Shape == shape {
			shape = ""
			if r.Results[i-1].Figure == fig {
				fig = ""
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", shape, fig, v.name(), v.milliseconds(), v.rate(), v.speed())
	}
}

func (v *result) name() string {
	name := v.Who
	switch {
	case v.Who == ours:
		name = "**" + v.Who + "**"
	case v.Ceiling:
		name = "*" + v.Who + "*"
	}
	if v.Note != "" {
		name += " (" + v.Note + ")"
	}
	if v.Exact > 0 && v.Exact < 1 {
		name += fmt.Sprintf(", %.2g %% exact", 100*v.Exact)
	}
	return name
}

func (v *result) milliseconds() string {
	if v.NS.Median <= 0 { // of an update, which is a difference
		return "within the noise"
	}
	return fmt.Sprintf("%.4g (%.4g … %.4g)", v.NS.Median/1e6, v.NS.Low/1e6, v.NS.High/1e6)
}

func (v *result) rate() string {
	if v.Unit == "" || v.Rate <= 0 {
		return ""
	}
	return fmt.Sprintf("%.3g %s", v.Rate, v.Unit)
}

func (v *result) speed() string {
	if v.Speed == nil {
		return ""
	}
	return fmt.Sprintf("%.2f× (%.2f … %.2f)", v.Speed.Median, v.Speed.Low, v.Speed.High)
}

// save writes results.md and results.json.
func (r *report) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var table bytes.Buffer
	r.markdown(&table)
	j, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"results.md": table.Bytes(), "results.json": append(j, '\n')} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
