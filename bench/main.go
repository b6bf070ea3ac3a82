// SPDX-License-Identifier: Apache-2.0

// Bench compares our kernels with what else the machine has, in one run: the contenders take turns, so that they share
// whatever else goes on, and ratios are taken turn by turn. One thread each.
//
//	quantize   ternary absmean to int8, against NumPy: "plain" as people write it, "lean" with every buffer allocated beforehand
//	constrain  inside the ball, against a plain C loop that reads the same values
//
// Peers are optional: one that is not there is named and left out.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// line is one contender's figures.
type line struct {
	Op      string             `json:"op"`
	N       int                `json:"n"`
	Who     string             `json:"who"`
	GBs     float64            `json:"gb_s"` // input bytes a second, median
	Low     float64            `json:"low"`  // the slowest and the fastest turn
	High    float64            `json:"high"`
	Against map[string]float64 `json:"against,omitempty"` // speed as a multiple of each peer's, median over turns
}

// contender does one turn and returns nanoseconds a call.
type contender struct {
	who  string
	peer bool
	turn func() (float64, error)
	ns   []float64
}

func main() {
	asJSON := flag.Bool("json", false, "print JSON, a line each")
	turns := flag.Int("turns", 15, "turns of each contender")
	python := flag.String("python", "", "the Python to ask for NumPy; by default python3 or /usr/bin/python3")
	read := flag.String("read", "native/build/release/read_peer", "the program that reads memory, built by make native")
	flag.Parse()
	if err := run(*asJSON, *turns, *python, *read); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(asJSON bool, turns int, python, read string) error {
	all, err := setun.Open(setun.WithForce(""))
	if err != nil {
		return err
	}
	defer all.Close()
	np, err := numpy(python)
	if err != nil {
		fmt.Fprintf(os.Stderr, "NumPy is left out: %v\n", err)
	} else {
		defer np.stop()
		fmt.Fprintf(os.Stderr, "NumPy %s\n", np.version)
	}
	rd, err := start(exec.Command(read))
	if err != nil {
		fmt.Fprintf(os.Stderr, "the read loop is left out: %v\n", err)
	} else {
		defer rd.stop()
	}
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 100_000_000)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for _, op := range []backends.Op{backends.OpQuantize, backends.OpConstrain} {
		for _, n := range []int{1_000_000, 100_000_000} {
			cs, done, err := contenders(all, op, x[:n], np, rd)
			if err != nil {
				return err
			}
			lines, err := compare(op, n, cs, turns)
			done()
			if err != nil {
				return err
			}
			if err := show(lines, asJSON); err != nil {
				return err
			}
		}
	}
	return nil
}

// contenders are the peers of an op and each of our kernels. done ends ours.
func contenders(all *setun.Runtime, op backends.Op, x []float32, np, rd *peer) (cs []*contender, done func(), err error) {
	n, repeats := len(x), max(1, 4_000_000/len(x))
	ask := func(p *peer, who, kind string, repeats int) {
		if p != nil {
			cs = append(cs, &contender{who: who, peer: true, turn: func() (float64, error) { return p.ask(kind, n, repeats) }})
		}
	}
	if op == backends.OpQuantize {
		ask(np, "numpy lean", "lean", max(1, repeats/4))
		ask(np, "numpy plain", "plain", 1)
	} else {
		ask(rd, "read loop", "read", repeats)
	}
	var open []*setun.Runtime
	done = func() {
		for _, rt := range open {
			rt.Close()
		}
	}
	for _, arm := range all.Arms(op) {
		rt, err := setun.Open(setun.WithForce(arm.String()), setun.WithProfile(""))
		if err != nil {
			done()
			return nil, nil, err
		}
		open = append(open, rt)
		call := calls(rt, op, x)
		cs = append(cs, &contender{who: arm.String(), turn: func() (float64, error) {
			if err := call(); err != nil { // not timed: others ran since, and took the caches
				return 0, err
			}
			begin := time.Now()
			for range repeats {
				if err := call(); err != nil {
					return 0, err
				}
			}
			return float64(time.Since(begin)) / float64(repeats), nil
		}})
	}
	return cs, done, nil
}

func calls(rt *setun.Runtime, op backends.Op, x []float32) func() error {
	if op == backends.OpConstrain {
		return func() error { _, _, err := rt.Constrain(x, x, 1e9); return err } // inside the ball, in place
	}
	q := new(quant.Tensor)
	return func() error { _, err := rt.Quantize(q, x, quant.Options{}); return err }
}

// compare lets the contenders take turns; the first round warms up.
func compare(op backends.Op, n int, cs []*contender, turns int) ([]line, error) {
	for t := range turns + 1 {
		for _, c := range cs {
			ns, err := c.turn()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.who, err)
			}
			if t > 0 {
				c.ns = append(c.ns, ns)
			}
		}
	}
	var lines []line
	for _, c := range cs {
		rate := func(ns float64) float64 { return 4 * float64(n) / ns }
		l := line{Op: op.String(), N: n, Who: c.who, GBs: rate(median(c.ns)), Low: rate(slices.Max(c.ns)), High: rate(slices.Min(c.ns))}
		for _, p := range cs {
			if p.peer && !c.peer {
				if l.Against == nil {
					l.Against = map[string]float64{}
				}
				ratios := make([]float64, turns)
				for i := range ratios {
					ratios[i] = p.ns[i] / c.ns[i]
				}
				l.Against[p.who] = median(ratios)
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func show(lines []line, asJSON bool) error {
	for _, l := range lines {
		if asJSON {
			if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("%-9s %9d  %-14s %6.2f GB/s (%.2f … %.2f)", l.Op, l.N, l.Who, l.GBs, l.Low, l.High)
		for _, p := range []string{"numpy lean", "numpy plain", "read loop"} {
			if a, ok := l.Against[p]; ok {
				fmt.Printf("  %5.2f× %s", a, p)
			}
		}
		fmt.Println()
	}
	return nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
