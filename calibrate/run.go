// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/runtime"
)

func runCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	quick := fs.Bool("quick", false, "fewer sizes and samples: some seconds instead of minutes")
	out := fs.String("out", "", "write the profile to this file instead of the user's cache folder")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	f, err := openField(runtime.WithProfile(""))
	if err != nil {
		return err
	}
	defer f.close()
	path := *out
	if path == "" {
		if path, err = runtime.ProfilePath(); err != nil {
			return err
		}
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	profile, samples, err := measureAll(ctx, env, f, *quick)
	if err != nil {
		return err
	}
	encoded, err := profile.Encode()
	if err != nil {
		return err
	}
	if err := save(path, encoded, 10*time.Second); err != nil {
		return err
	}
	rt, err := runtime.Open(runtime.WithForce(""), runtime.WithProfile(path))
	if err != nil {
		return err
	}
	defer rt.Close()
	if p := rt.Report().Profile; p.State != "loaded" {
		return fmt.Errorf("the profile that was just written is %s: %s", p.State, p.Reason)
	}
	return printThresholds(env, rt, path, samples)
}

// save replaces a profile when no program merges what it has learned into it, or it would put the old one back.
func save(path string, encoded []byte, wait time.Duration) error {
	unlock, err := durable.Lock(path, wait)
	if err != nil {
		return err
	}
	defer unlock()
	return durable.WriteFile(path, encoded, 0o644)
}

// measureAll races the arms of every op over its grid and fits their models.
func measureAll(ctx context.Context, env *environment, f *field, quick bool) (*dispatch.Profile, int, error) {
	e := fullEffort
	if quick {
		e = quickEffort
	}
	report := f.all.Report()
	p := &dispatch.Profile{Fingerprint: report.Profile.Fingerprint, Machine: fmt.Sprintf("%s, %d cores", report.Machine.CPU, report.Machine.Cores), Created: time.Now().UTC().Format(time.RFC3339)}
	var err error
	if p.Links, err = f.all.Links(ctx); err != nil {
		return nil, 0, err
	}
	d := newData(largest(quick))
	var jobs []job
	total := 0.0
	weight := func(j job) float64 { // a guess of the time: the setting up, and what the slower arms need
		return 4e6 + min(float64(e.longest), f.all.Explain(j.shape).Arms[0].PredictedNs/4)*float64(e.samples)
	}
	for _, op := range backends.Ops() {
		for _, j := range grid(op, quick) {
			jobs = append(jobs, j)
			total += passes * weight(j)
		}
	}
	bar := newProgress(env.err, total)
	defer bar.end()
	t := newTable(jobs)
	step := func(j job) { bar.step(weight(j), j.shape.Op.String()+" "+j.shape.String()) }
	begin := time.Now()
	for pass := 0; pass < passes || pass < 2*passes && time.Since(begin) < e.patience; pass++ {
		wanted := func(i int) bool { return pass < passes || t.times[i].calm < 1 && time.Since(begin) < e.patience }
		if err := t.add(ctx, d, f, e, wanted, step); err != nil {
			return nil, 0, err
		}
	}
	count := 0
	for _, op := range backends.Ops() {
		for k, a := range f.all.Arms(op) {
			var samples []dispatch.Sample
			for i, j := range jobs {
				if j.shape.Op != op {
					continue
				}
				copies := moving(p.Links, a, j)
				for _, ns := range t.times[i].counted(k) {
					if ns == never {
						continue
					}
					samples = append(samples, dispatch.Sample{Shape: j.shape, Nanos: max(ns-copies, ns/20)}) // a model is of the work; what copies take is the link's
				}
			}
			count += len(samples)
			p.Set(op, a, dispatch.Fit(dispatch.Prior(op, a), samples))
		}
	}
	return p, count, nil
}

// moving is what copies took of a measured part.
func moving(links []dispatch.Link, a dispatch.Arm, j job) float64 {
	parts := 1.0
	if j.shape.Op == backends.OpKMeans {
		parts = iterations
	}
	for _, l := range links {
		if l.Memory == a.Memory {
			return l.Hosted(&j.shape, parts)
		}
	}
	return 0
}

// passes over the grid: what else goes on on the machine lasts for seconds, and must not fall on all samples of a shape. Shapes on which it did are measured again, while there is time.
const passes = 3

// hopeless says whether an arm needs no more samples: it takes milliseconds where another takes a sixth of that.
func hopeless(list []float64, all [][]float64) bool {
	least := math.Inf(1)
	for _, other := range all {
		if len(other) > 0 {
			least = min(least, median(other))
		}
	}
	return len(list) > 0 && median(list) > max(1e6, 6*least)
}

// printThresholds prints from which size each kernel wins.
func printThresholds(env *environment, rt *runtime.Runtime, path string, samples int) error {
	var all []dispatch.Threshold
	for _, op := range backends.Ops() {
		all = append(all, rt.Thresholds(op)...)
	}
	if *env.json {
		return env.printJSON(struct {
			Profile    string               `json:"profile"`
			Samples    int                  `json:"samples"`
			Thresholds []dispatch.Threshold `json:"thresholds"`
		}{path, samples, all})
	}
	fmt.Fprintf(env.out, "%d calls measured, profile saved to %s\n\n", samples, path)
	listThresholds(env, all)
	return nil
}
