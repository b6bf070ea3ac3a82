// SPDX-License-Identifier: Apache-2.0

// Bench compares quantize with NumPy in one run: each op in turn, ours and theirs, on normal values, on one thread. NumPy is
// optional: without a python3 that has it the program says so and shows our figures alone.
package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

//go:embed numpy_peer.py
var peerSource string

// line is one measurement.
type line struct {
	N       int     `json:"n"`
	Who     string  `json:"who"`
	GBs     float64 `json:"gb_s"` // input bytes a second, median
	Low     float64 `json:"low"`  // slowest and fastest sample
	High    float64 `json:"high"`
	Against float64 `json:"against_numpy_lean,omitempty"`  // median of ours over theirs, sample by sample
	Plain   float64 `json:"against_numpy_plain,omitempty"` // likewise
}

func main() {
	asJSON := flag.Bool("json", false, "print JSON")
	samples := flag.Int("samples", 9, "samples of each")
	python := flag.String("python", "", "the Python to ask for NumPy; the default tries python3 and /usr/bin/python3")
	flag.Parse()
	if err := run(*asJSON, *samples, *python); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(asJSON bool, samples int, python string) error {
	all, err := setun.Open()
	if err != nil {
		return err
	}
	defer all.Close()
	p, err := startPeer(python)
	if err != nil {
		fmt.Fprintf(os.Stderr, "NumPy is left out: %v\n", err)
	} else {
		defer p.stop()
		fmt.Fprintf(os.Stderr, "NumPy %s\n", p.version)
	}
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 100_000_000)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for _, n := range []int{1_000_000, 100_000_000} {
		lines, err := compare(all, p, x[:n], samples)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if asJSON {
				if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
					return err
				}
				continue
			}
			fmt.Printf("quantize %9d  %-22s %6.2f GB/s  (%.2f … %.2f)", l.N, l.Who, l.GBs, l.Low, l.High)
			if l.Against > 0 {
				fmt.Printf("   %5.1f× lean, %5.1f× plain NumPy", l.Against, l.Plain)
			}
			fmt.Println()
		}
	}
	return nil
}

// contender runs one call of n values and returns its nanoseconds.
type contender struct {
	who string
	run func() (float64, error)
	ns  []float64
}

// compare alternates the contenders, so that they share whatever else the machine does.
func compare(all *setun.Runtime, p *peer, x []float32, samples int) ([]line, error) {
	n := len(x)
	repeats := max(1, 4_000_000/n)
	var cs []*contender
	if p != nil {
		for _, kind := range []string{"lean", "plain"} {
			cs = append(cs, &contender{who: "numpy " + kind, run: func() (float64, error) { return p.ask(kind, n, max(1, repeats/4)) }})
		}
	}
	for _, arm := range all.Arms(backends.OpQuantize) {
		rt, err := setun.Open(setun.WithForce(arm.String()))
		if err != nil {
			return nil, err
		}
		defer rt.Close()
		q := new(quant.Tensor)
		cs = append(cs, &contender{who: arm.String(), run: func() (float64, error) {
			begin := time.Now()
			for range repeats {
				if _, err := rt.Quantize(q, x, quant.Options{}); err != nil {
					return 0, err
				}
			}
			return float64(time.Since(begin)) / float64(repeats), nil
		}})
	}
	cs = append(cs, chosen(all, x, repeats))
	for s := range samples + 1 { // the first round warms up
		for _, c := range cs {
			ns, err := c.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.who, err)
			}
			if s > 0 {
				c.ns = append(c.ns, ns)
			}
		}
	}
	var lines []line
	for i, c := range cs {
		rate := func(ns float64) float64 { return 4 * float64(n) / ns }
		l := line{N: n, Who: c.who, GBs: rate(median(c.ns)), Low: rate(slices.Max(c.ns)), High: rate(slices.Min(c.ns))}
		if p != nil && i >= 2 {
			l.Against, l.Plain = ratio(cs[0].ns, c.ns), ratio(cs[1].ns, c.ns)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// chosen is the dispatcher itself.
func chosen(all *setun.Runtime, x []float32, repeats int) *contender {
	o := quant.Options{}.WithDefaults(len(x))
	q := new(quant.Tensor)
	return &contender{who: "setun → " + all.Explain(dispatch.Quantize(len(x), o)).Chosen, run: func() (float64, error) {
		begin := time.Now()
		for range repeats {
			if _, err := all.Quantize(q, x, quant.Options{}); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(begin)) / float64(repeats), nil
	}}
}

func ratio(theirs, ours []float64) float64 {
	r := make([]float64, len(ours))
	for i := range r {
		r[i] = theirs[i] / ours[i]
	}
	return median(r)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// peer is a Python process that times NumPy on request.
type peer struct {
	cmd     *exec.Cmd
	in      *bufio.Writer
	out     *bufio.Scanner
	version string
	close   func() error
}

func startPeer(python string) (*peer, error) {
	candidates := []string{"python3", "/usr/bin/python3"}
	if python != "" {
		candidates = []string{python}
	}
	var last error
	for _, c := range candidates {
		cmd := exec.Command(c, "-c", peerSource)
		cmd.Env = append(os.Environ(), "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if last = cmd.Start(); last != nil {
			continue
		}
		p := &peer{cmd: cmd, in: bufio.NewWriter(in), out: bufio.NewScanner(out), close: in.Close}
		if p.out.Scan() {
			p.version = p.out.Text()
			return p, nil
		}
		p.stop()
		last = fmt.Errorf("%s has no NumPy", c)
	}
	return nil, last
}

// ask returns the nanoseconds of one call of n values, the mean of a few.
func (p *peer) ask(kind string, n, repeats int) (float64, error) {
	fmt.Fprintf(p.in, "%s %d %d\n", kind, n, repeats)
	if err := p.in.Flush(); err != nil {
		return 0, err
	}
	if !p.out.Scan() {
		return 0, fmt.Errorf("the Python process ended")
	}
	return strconv.ParseFloat(strings.TrimSpace(p.out.Text()), 64)
}

func (p *peer) stop() {
	p.close()
	p.cmd.Wait()
}
