// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

// opened is a runtime as commands that only look use it: nothing is learned, nothing saved.
func opened() (*runtime.Runtime, error) {
	return runtime.Open(runtime.WithForce(""), runtime.WithoutLearning())
}

// model is what show says of an arm.
type model struct {
	Op       string           `json:"op"`
	Arm      string           `json:"arm"`
	Coef     dispatch.Coef    `json:"coefficients"` // nanoseconds a unit of each feature: docs/dispatcher.md
	Measured []dispatch.Point `json:"measured"`     // by size class, int8 or plain variants
}

func showCommand(_ context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	picture := fs.String("plot", "", "write a picture of time against size to this file: .svg or .png")
	if err := fs.Parse(args); err != nil {
		return exit{exitUsage, err.Error()}
	}
	ops := backends.Ops()
	if fs.NArg() == 1 {
		op, err := opNamed(fs.Arg(0))
		if err != nil {
			return err
		}
		ops = []backends.Op{op}
	} else if fs.NArg() > 1 {
		fs.Usage()
		return exit{exitUsage, fmt.Sprintf("%d arguments, one op at most is expected; flags come first, as in: calibrate show --plot quantize.svg quantize", fs.NArg())}
	}
	rt, err := opened()
	if err != nil {
		return err
	}
	defer rt.Close()
	r := rt.Router()
	if *picture != "" {
		if err := plotCurves(*picture, rt, ops); err != nil {
			return err
		}
		fmt.Fprintf(env.err, "written: %s\n", *picture)
	}
	var models []model
	var thresholds []dispatch.Threshold
	for _, op := range ops {
		thresholds = append(thresholds, r.Thresholds(op)...)
		for i, a := range r.Arms(op) {
			models = append(models, model{op.String(), a.String(), r.Coef(op, i), r.Measured(op, i)})
		}
	}
	if *env.json {
		return env.printJSON(struct {
			Profile    runtime.ProfileReport `json:"profile"`
			Models     []model               `json:"models"`
			Thresholds []dispatch.Threshold  `json:"thresholds"`
		}{rt.Report().Profile, models, thresholds})
	}
	p := rt.Report().Profile
	fmt.Fprintf(env.out, "profile %s: %s %s\n\n", p.State, p.Path, p.Reason)
	listThresholds(env, thresholds)
	fmt.Fprintf(env.out, "\n%-20s %-22s %12s %8s %8s   coefficients, ns\n", "op", "kernel", "sizes", "samples", "spread")
	for _, m := range models {
		samples, spread := 0, 0.0
		for _, x := range m.Measured {
			samples += x.Samples
			spread += x.Spread / float64(len(m.Measured))
		}
		fmt.Fprintf(env.out, "%-20s %-22s %12d %8d %6.0f %%  ", m.Op, m.Arm, len(m.Measured), samples, 100*spread)
		for _, c := range m.Coef {
			fmt.Fprintf(env.out, " %.3g", c)
		}
		fmt.Fprintln(env.out)
	}
	return nil
}

// opNamed is the op of a name.
func opNamed(name string) (backends.Op, error) {
	for _, op := range backends.Ops() {
		if op.String() == name {
			return op, nil
		}
	}
	_, err := dispatch.ParseShape(name, "1")
	return 0, exit{exitUsage, err.Error()}
}

// listThresholds prints from which size each kernel wins, and how sure that is.
func listThresholds(env *environment, all []dispatch.Threshold) {
	fmt.Fprintln(env.out, "fastest kernel from size (values; for kmeans points of 64 values, 64 clusters; for matmul rows of square matrices); in brackets where the crossing lies with 95 % confidence:")
	last := ""
	for i, t := range all {
		name := ""
		if t.Op != last {
			name = t.Op
		}
		fmt.Fprintf(env.out, "  %-19s %12d  %-22s %s\n", name, t.From, t.Arm, certainty(t, t.Op != last, i+1 == len(all) || all[i+1].Op != t.Op))
		last = t.Op
	}
}

// certainty says how sure a threshold is.
func certainty(t dispatch.Threshold, first, final bool) string {
	switch {
	case first && final:
		return "no crossing on this machine"
	case first:
		return ""
	case t.Low == 0 && t.High == 0:
		return "[not certain at any size]"
	case t.Low == 0:
		return fmt.Sprintf("[up to %d]", t.High)
	case t.High == 0:
		return fmt.Sprintf("[from %d]", t.Low)
	}
	return fmt.Sprintf("[%d … %d]", t.Low, t.High)
}
