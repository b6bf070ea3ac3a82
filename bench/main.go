// SPDX-License-Identifier: Apache-2.0

// Bench compares the runtime with other software in one run: on the same data the contenders take turns, so that they share whatever else goes on,
// and ratios are taken turn by turn.
//
//	kmeans     against scikit-learn and FAISS, and the machine's peak of multiply-adds
//	           clustered: rows about centres, where screening in integers saves most; our kernels among themselves
//	kmeans++   its start alone, against the same two
//	quantize   ternary absmean to int8, against NumPy: "plain" as people write it, "lean" with every buffer allocated beforehand
//	constrain  inside and outside the ball, against NumPy
//	matmul     against the BLAS of NumPy
//
// What moves memory is also held against a plain C loop with the same traffic. Equal work for all: float32, the same first centroids, the same number
// of iterations, no tolerance, no subsampling, the same threads. Peers are optional: one that is not there is named and left out.
//
// It prints a Markdown table (or JSON) and writes results.md, results.json and plots to -out.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/setun-compute/setun/quant"
)

// options are the flags.
type options struct {
	set, python, loops, ggml, out string
	only                          *regexp.Regexp
	threads, turns                int
	budget                        time.Duration
	arms, json                    bool
}

func main() {
	var o options
	var only string
	flag.StringVar(&o.set, "set", "quick", `"quick" or "full": which cases`)
	flag.StringVar(&only, "only", "", `a regular expression that "op shape" must match, as in "kmeans 100000x"`)
	flag.IntVar(&o.threads, "threads", runtime.NumCPU(), "threads of each contender")
	flag.IntVar(&o.turns, "turns", 9, "turns of each contender in a case")
	flag.DurationVar(&o.budget, "budget", 0, "no new round of turns in a case after this, but three in any case; by default 8s, or 60s for the full set")
	flag.BoolVar(&o.arms, "arms", false, "also force each kernel of ours")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of Markdown")
	flag.StringVar(&o.python, "python", "", "the Python with the peers; by default SETUN_BENCH_PYTHON, python3, /usr/bin/python3")
	flag.StringVar(&o.loops, "loops", "native/build/release/peer_loops", "the program with the plain loops, built by make native")
	flag.StringVar(&o.ggml, "ggml", os.Getenv("SETUN_BENCH_GGML"), "a libggml-cpu that somebody built, to compare ternary products with; by default SETUN_BENCH_GGML")
	flag.StringVar(&o.out, "out", "build/bench", "folder for results and plots")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		err = run(o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// cases are all there are.
func cases() []*bench {
	return []*bench{
		machine("read", 4e8, "GB/s"),
		machine("fma", 1e10, "GFLOP/s"),
		kmeans{10_000, 64, 64, 8}.bench(true),
		kmeans{100_000, 64, 64, 5}.bench(true),
		kmeans{100_000, 128, 256, 4}.bench(true),
		kmeans{1_000_000, 8, 256, 3}.bench(true),
		kmeans{1_000_000, 32, 64, 3}.bench(false),
		kmeans{1_000_000, 128, 10, 3}.bench(false),
		kmeans{100_000, 1024, 1000, 3}.bench(false),
		kmeans{60_000, 784, 979, 3}.bench(false),
		kmeans{1_000_000, 128, 1024, 3}.bench(false),
		kmeans{100_000, 128, 256, 4}.clustered(true),
		kmeans{1_000_000, 128, 1024, 4}.clustered(false),
		kmeans{n: 10_000, d: 64, k: 64}.start(true),
		kmeans{n: 100_000, d: 64, k: 64}.start(true),
		kmeans{n: 100_000, d: 128, k: 256}.start(false),
		quantize(1_000_000, 0, true),
		quantize(10_000_000, 0, false),
		quantize(100_000_000, 0, true),
		quantize(100_000_000, 128, true),
		constrain(100_000_000, false, true),
		constrain(100_000_000, true, true),
		ternary(2048, 4096, quant.Bits2, true),
		ternary(8192, 8192, quant.Bits2, true),
		ternary(8192, 8192, quant.Base3, true),
		ternary(8192, 8192, quant.Four5, true),
		ternary(8192, 8192, quant.Planes, true),
		ternary(2048, 4096, quant.Base3, false),
		ternary(2048, 4096, quant.Four5, false),
		ternary(4096, 4096, quant.Bits2, false),
		ternary(4096, 4096, quant.Four5, false),
		ternary(65_536, 8192, quant.Bits2, false),
		ternary(65_536, 8192, quant.Base3, false),
		ternary(65_536, 8192, quant.Four5, false),
		ternary(65_536, 8192, quant.Planes, false),
		recode(8, 4096, quant.Base3, quant.Int8, true),
		recode(8, 4096, quant.Int8, quant.Base3, true),
		recode(8, 4096, quant.Planes, quant.Int8, true),
		recode(8, 4096, quant.Planes, quant.Bits2, false),
		matmul(1024, true),
		matmul(2048, false),
	}
}

// choose picks the cases of a set that match.
func choose(all []*bench, set string, only *regexp.Regexp) ([]*bench, error) {
	if set != "quick" && set != "full" {
		return nil, fmt.Errorf("-set %q is neither quick nor full", set)
	}
	var list []*bench
	for _, b := range all {
		if (b.quick || set == "full") && only.MatchString(b.op+" "+b.shape) {
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no case of the %s set matches %q", set, only)
	}
	return list, nil
}

func run(o options, stdout, stderr io.Writer) error {
	list, err := choose(cases(), o.set, o.only)
	if err != nil {
		return err
	}
	if o.threads < 1 || o.turns < 1 {
		return fmt.Errorf("-threads %d and -turns %d must be positive", o.threads, o.turns)
	}
	if o.budget == 0 {
		o.budget = 8 * time.Second
		if o.set == "full" {
			o.budget = time.Minute
		}
	}
	runtime.GOMAXPROCS(o.threads) // the runtime offers kernels that need no more
	values := 1
	for _, b := range list {
		values = max(values, b.values)
	}
	e, err := newEnv(o, values)
	if err != nil {
		return err
	}
	defer e.close()
	rep := newReport(e, o)
	for _, s := range append(rep.Peers, rep.Missing...) {
		fmt.Fprintln(stderr, s)
	}
	for _, b := range list {
		begin := time.Now()
		cs, done, err := b.contenders(e)
		if err != nil {
			return fmt.Errorf("%s %s: %w", b.op, b.shape, err)
		}
		cs = compare(cs, o.turns, within(o.budget), func(who string, err error) {
			rep.Missing = append(rep.Missing, fmt.Sprintf("%s in %s %s: %v", who, b.op, b.shape, err))
			fmt.Fprintln(stderr, rep.Missing[len(rep.Missing)-1])
		})
		done()
		if err := differ(cs); err != nil {
			return fmt.Errorf("%s %s: %w", b.op, b.shape, err)
		}
		rep.Results = append(rep.Results, summary(b, cs)...)
		if err := rep.save(o.out); err != nil { // now: a long run that is ended leaves what it measured
			return err
		}
		fmt.Fprintf(stderr, "%s %s: %.1f s\n", b.op, b.shape, time.Since(begin).Seconds())
	}
	if err := rep.plots(o.out); err != nil {
		return err
	}
	if o.json {
		j := json.NewEncoder(stdout)
		j.SetIndent("", "  ")
		return j.Encode(rep)
	}
	rep.markdown(stdout)
	fmt.Fprintf(stderr, "results and plots are in %s\n", filepath.Clean(o.out))
	return nil
}
