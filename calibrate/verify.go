// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/backends/cuda"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/every"
	"github.com/setun-compute/setun/internal/plugin"
)

// verification is what verify prints.
type verification struct {
	*conform.Report
	Expected string           `json:"expected"` // the digest on every machine
	Seed     uint64           `json:"seed"`     // of the random cases
	Seconds  float64          `json:"seconds"`
	Tried    []plugin.Attempt `json:"libraries"`
}

func verifyCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	seed := fs.Uint64("seed", 0, "of the random cases; by default another one every time")
	random := fs.Int("random", 100, "random cases of each op, beside the fixed ones")
	pure := fs.Bool("pure", false, "pure Go alone, without native libraries")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	if *random < 0 {
		return exit{exitUsage, fmt.Sprintf("--random %d is negative", *random)}
	}
	for *seed == 0 {
		*seed = rand.Uint64()
	}
	from, err := places(0)
	if err != nil {
		return exit{exitUsage, err.Error()}
	}
	system := admit.Getenv(blas.Variable)
	if *pure {
		from, system = nil, "none"
	}
	all := every.Open(from, os.Getenv(simdc.ForceVariable), system, admit.Getenv(cuda.CUBLASVariable))
	defer all.Close()
	bar := newProgress(env.err, float64(len(backends.Ops())))
	begin := time.Now()
	r, err := conform.Verify(ctx, all.Arms, conform.Options{Seed: *seed, Random: *random, Progress: func(op backends.Op, cases int) {
		bar.step(1, fmt.Sprintf("%s: %d cases", op, cases))
	}})
	bar.end()
	if err != nil {
		return err
	}
	v := verification{r, conform.Digest, *seed, time.Since(begin).Seconds(), all.Tried}
	if *env.json {
		err = env.printJSON(v)
	} else {
		v.print(env)
	}
	switch {
	case err != nil:
		return err
	case r.Mismatches > 0:
		return exit{exitWrong, fmt.Sprintf("%d mismatches", r.Mismatches)}
	case r.Digest != conform.Digest:
		return exit{exitWrong, fmt.Sprintf("the digest is %s and should be %s: pure Go itself computes otherwise here", r.Digest, conform.Digest)}
	}
	return nil
}

func (v *verification) print(env *environment) {
	for i, t := range v.Tried {
		if last := i+1 == len(v.Tried) || v.Tried[i+1].Name != t.Name; last && t.State != plugin.Loaded {
			fmt.Fprintf(env.out, "%s is %s: %s\n", t.Name, t.State, t.Reason)
		}
	}
	for i, a := range v.Arms {
		if i == 0 || a.Op != v.Arms[i-1].Op {
			same := 0
			for _, b := range v.Arms {
				if b.Op == a.Op && b.Digest == a.Digest {
					same++
				}
			}
			fmt.Fprintf(env.out, "%-18s %6d cases  %2d kernels with digest %s\n", a.Op, a.Cases, same, a.Digest)
			continue
		}
		if first := v.Arms[slices.IndexFunc(v.Arms, func(b conform.ArmReport) bool { return b.Op == a.Op })]; a.Digest == "" {
			fmt.Fprintf(env.out, "%-18s %6d cases  %s within its bound\n", "", a.Cases, a.Arm)
		} else if a.Digest != first.Digest {
			fmt.Fprintf(env.out, "%-18s %6d cases  %s has digest %s\n", "", a.Cases, a.Arm, a.Digest)
		}
	}
	for _, f := range v.Failures {
		fmt.Fprintf(env.out, "MISMATCH %s\n", f)
	}
	fmt.Fprintf(env.out, "\n%d cases, %d mismatches in %.1f s; random cases from seed %d (--seed runs them again)\n", v.Cases, v.Mismatches, v.Seconds, v.Seed)
	if v.Digest != "" {
		fmt.Fprintf(env.out, "digest %s, everywhere %s\n", v.Digest, v.Expected)
	}
}
