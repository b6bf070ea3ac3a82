// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// diagnosis is what doctor prints.
type diagnosis struct {
	runtime.Report
	SelfTest []selfTest `json:"self_test"`
	Advice   []advice   `json:"advice"`
}

// selfTest is the verdict on one kernel.
type selfTest struct {
	Kernel string `json:"kernel"`
	Passed bool   `json:"passed"`
	Fast   bool   `json:"fast,omitempty"` // its results are not canonical
	Detail string `json:"detail,omitempty"`
}

func doctorCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	f, err := openField()
	if err != nil {
		return err
	}
	defer f.close()
	d := diagnosis{Report: f.all.Report()}
	wrong := 0
	for _, name := range armNames(f) {
		t := selfTest{Kernel: name, Passed: true, Fast: isFast(f, name)}
		if err := check(ctx, f.forced["cpu/go"], f.forced[name]); err != nil {
			t.Passed, t.Detail = false, err.Error()
			wrong++
		}
		d.SelfTest = append(d.SelfTest, t)
	}
	if d.Advice, err = advise(f.all); err != nil {
		return err
	}
	if *env.json {
		err = env.printJSON(d)
	} else {
		printDiagnosis(env, d)
	}
	switch {
	case err != nil:
		return err
	case wrong > 0:
		return exit{exitWrong, fmt.Sprintf("%d kernels gave a wrong result", wrong)}
	}
	for _, b := range d.Backends {
		if b.State == "refused" || b.State == "failed" || b.State == "quarantined" || b.State == "lost" {
			return exit{exitDegraded, fmt.Sprintf("%s is there but was %s: %s", b.Path, b.State, b.Reason)}
		}
		if b.State == "loaded" && b.Reason != "" { // some of its ops are quarantined
			return exit{exitDegraded, fmt.Sprintf("%s is not used in full: %s", b.Path, b.Reason)}
		}
	}
	return nil
}

func armNames(f *field) []string {
	var names []string
	for name := range f.forced {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// isFast tells whether an arm's results are not canonical.
func isFast(f *field, name string) bool {
	return slices.ContainsFunc(backends.Ops(), func(op backends.Op) bool {
		return slices.ContainsFunc(f.all.Arms(op), func(a dispatch.Arm) bool { return a.Fast && a.String() == name })
	})
}

// check compares a kernel with pure Go on an awkward length of every op that it has.
func check(ctx context.Context, want, got *runtime.Runtime) error {
	const n, dim, k = 70001, 7, 5 // enough for several threads
	d := newData(n * dim)
	x := d.x[:n]
	for _, op := range []func() error{
		func() error { return checkQuantize(want, got, x) },
		func() error { return checkConstrain(want, got, x) },
		func() error { return checkStep(want, got, x, d.y[:n]) },
		func() error { return checkReduce(want, got, x, d.y[:n]) },
		func() error { return checkKMeans(ctx, want, got, d.x, dim, k) },
		func() error { return checkMatMul(want, got, d) },
		func() error { return checkTernary(want, got, d) },
		func() error { return checkLayers(want, got, d) },
	} {
		if err := op(); err != nil && !errors.Is(err, runtime.ErrNoBackend) {
			return err
		}
	}
	return nil
}

func checkQuantize(want, got *runtime.Runtime, x []float32) error {
	for _, o := range []quant.Options{{}, {Rule: quant.LeastSquares, Format: quant.Base3}, {Levels: quant.Quinary, Group: 100}} {
		a, err := want.Quantize(nil, x, o)
		if err != nil {
			return err
		}
		b, err := got.Quantize(nil, x, o)
		if err != nil {
			return err
		}
		if !slices.Equal(a.Codes, b.Codes) || !slices.Equal(a.Packed, b.Packed) || !slices.Equal(a.Scales, b.Scales) {
			return fmt.Errorf("quantize differs from pure Go")
		}
	}
	return nil
}

func checkConstrain(want, got *runtime.Runtime, x []float32) error {
	for _, radius := range []float64{1, 1e9} {
		a, na, err := want.Constrain(nil, x, radius)
		if err != nil {
			return err
		}
		b, nb, err := got.Constrain(nil, x, radius)
		if err != nil {
			return err
		}
		if na != nb || !slices.Equal(a, b) {
			return fmt.Errorf("constrain differs from pure Go")
		}
	}
	return nil
}

// checkStep compares the constraints by cluster and the fused step.
func checkStep(want, got *runtime.Runtime, x, y []float32) error {
	for _, layout := range []runtime.Clusters{{Offsets: []int64{0, 2000, 2000, int64(len(x))}}, {Labels: make([]int32, len(x))}} {
		layout.Radii = []float64{1, 2, 3}
		a, err := want.ConstrainClusters(nil, x, &layout)
		if err != nil {
			return err
		}
		norms := slices.Clone(layout.Norms)
		b, err := got.ConstrainClusters(nil, x, &layout)
		if err != nil {
			return err
		}
		if !slices.Equal(a, b) || !slices.Equal(norms, layout.Norms) {
			return fmt.Errorf("constrain-clusters differs from pure Go")
		}
	}
	for _, o := range []quant.Options{{}, {Group: 100}} {
		p, q := slices.Clone(x), slices.Clone(x)
		a, na, err := want.Step(nil, p, y, 1, o)
		if err != nil {
			return err
		}
		b, nb, err := got.Step(nil, q, y, 1, o)
		if err != nil {
			return err
		}
		if na != nb || !slices.Equal(p, q) || !slices.Equal(a.Codes, b.Codes) || !slices.Equal(a.Scales, b.Scales) {
			return fmt.Errorf("step differs from pure Go")
		}
	}
	return nil
}

func checkReduce(want, got *runtime.Runtime, x, y []float32) error {
	for _, op := range []func(*runtime.Runtime) (float64, error){
		func(rt *runtime.Runtime) (float64, error) { return rt.Dot(x, y) },
		func(rt *runtime.Runtime) (float64, error) { return rt.Norm2(x) },
	} {
		a, err := op(want)
		if err != nil {
			return err
		}
		b, err := op(got)
		if err != nil {
			return err
		}
		if a != b {
			return fmt.Errorf("dot or norm2 is %v, pure Go has %v", b, a)
		}
	}
	return nil
}

func checkKMeans(ctx context.Context, want, got *runtime.Runtime, x []float32, dim, k int) error {
	o := runtime.KMeansOptions{K: k, MaxIter: 5, Seed: 1}
	a, err := want.KMeans(ctx, nil, x, dim, o)
	if err != nil {
		return err
	}
	b, err := got.KMeans(ctx, nil, x, dim, o)
	if err != nil {
		return err
	}
	if !slices.Equal(a.Labels, b.Labels) || !slices.Equal(a.Centroids, b.Centroids) || a.Inertia != b.Inertia {
		return fmt.Errorf("kmeans differs from pure Go")
	}
	return nil
}

// checkMatMul compares products of small integers, which are exact in any order of summation and so the same on fast kernels; then, canonical kernels only, of the data.
func checkMatMul(want, got *runtime.Runtime, d *data) error {
	const m, n, k = 63, 65, 70
	whole := func(v []float32) []float32 {
		w := make([]float32, len(v))
		for i, x := range v {
			w[i] = float32(math.Round(4 * float64(x)))
		}
		return w
	}
	a, b := d.x[:m*k], d.y[:k*n]
	for _, c := range []struct {
		a, b []float32
		fast bool
	}{{whole(a), whole(b), true}, {a, b, false}} {
		o := runtime.MatMulOptions{Fast: c.fast}
		x, err := want.MatMul(nil, c.a, c.b, m, n, k, o)
		if err != nil {
			return err
		}
		y, err := got.MatMul(nil, c.a, c.b, m, n, k, o)
		if err != nil {
			return err
		}
		if !slices.Equal(x, y) {
			return fmt.Errorf("matmul differs from pure Go")
		}
	}
	return nil
}

// checkTernary multiplies activations by codes in every format.
func checkTernary(want, got *runtime.Runtime, d *data) error {
	const rows, cols, batch = 37, 611, 2
	a, err := want.QuantizeActivations(nil, d.x[:batch*cols], cols)
	if err != nil {
		return err
	}
	b, err := got.QuantizeActivations(nil, d.x[:batch*cols], cols)
	if err != nil {
		return err
	}
	if !slices.Equal(a.Codes, b.Codes) || !slices.Equal(a.Scales, b.Scales) {
		return fmt.Errorf("activations differ from pure Go")
	}
	q, err := want.Quantize(nil, d.y[:rows*cols], quant.Options{Levels: quant.Sparse, Cols: cols, Group: 128})
	if err != nil {
		return err
	}
	for f := quant.Int8; f <= quant.Planes; f++ {
		w, err := want.Convert(nil, q, f)
		if err != nil {
			return err
		}
		switch v, err := got.Convert(nil, q, f); {
		case err != nil && !errors.Is(err, runtime.ErrNoBackend) && !errors.Is(err, backends.ErrUnsupported):
			return err
		case err == nil && (!slices.Equal(v.Codes, w.Codes) || !slices.Equal(v.Packed, w.Packed)):
			return fmt.Errorf("recode to %v differs from pure Go", f)
		}
		x, err := want.TernaryMatMul(nil, a, w)
		if err != nil {
			return err
		}
		y, err := got.TernaryMatMul(nil, a, w)
		if errors.Is(err, backends.ErrUnsupported) {
			continue // a format that the kernel leaves to others
		}
		if err != nil {
			return err
		}
		if !slices.Equal(x, y) {
			return fmt.Errorf("ternary-matmul of %v codes differs from pure Go", f)
		}
	}
	return nil
}

// describe is a device in a line.
func describe(i *backends.DeviceInfo) string {
	text := fmt.Sprintf("%s, ordinal %d, driver %s, compute capability %d.%d, %d multiprocessors, %.1f GiB of memory (%.1f free)",
		i.Name, i.Ordinal, i.Driver, i.Major, i.Minor, i.Units, float64(i.Total)/(1<<30), float64(i.Free)/(1<<30))
	if i.Lost != 0 {
		text += fmt.Sprintf(", LOST to the driver's error %d", i.Lost)
	}
	return text
}

// provenance is what is known of a library's file.
func provenance(b *runtime.BackendReport) string {
	text := "sha256 " + b.Digest + ", no manifest"
	if b.Manifest {
		text = "sha256 " + b.Digest + ", as installed"
	}
	if b.ByPath {
		text += ", loaded by its path"
	}
	return text
}

// tried is how a library came to be loaded.
func tried(p *runtime.ProbeReport) string {
	if p.Source == "off" {
		return "LOADED WITHOUT A PROBE"
	}
	when := map[string]string{"probe": "now", "process": "before, by this process", "disk": "before"}[p.Source]
	return fmt.Sprintf("tried in a process of its own %s: %d kernels in %.1f ms", when, p.Kernels, p.Took.Seconds()*1e3)
}

func printQuarantine(env *environment, q *runtime.QuarantineReport) {
	if q.Unprobed {
		fmt.Fprintln(env.out, "probes    OFF: a library that crashes takes the program with it")
	} else if q.Helper != "" {
		fmt.Fprintf(env.out, "probes    by %s\n", q.Helper)
	}
	for _, e := range q.Entries {
		fmt.Fprintf(env.out, "quarantine %s: %v\n", e.File, e)
	}
	for _, text := range q.Running {
		fmt.Fprintf(env.out, "ended     %s\n", text)
	}
	for _, n := range q.Notes {
		fmt.Fprintf(env.out, "note      %s\n", n)
	}
}

func printDiagnosis(env *environment, d diagnosis) {
	fmt.Fprintf(env.out, "machine   %s, %d cores, %s/%s\n", d.Machine.CPU, d.Machine.Cores, d.Machine.OS, d.Machine.Arch)
	for _, l := range d.ISA {
		state := "yes"
		if !l.Available {
			state = "no: " + l.Reason
		}
		fmt.Fprintf(env.out, "isa       %-8s %s\n", l.Name, state)
	}
	for _, b := range d.Backends {
		where := b.Path
		if where == "" {
			where = b.Origin
		}
		fmt.Fprintf(env.out, "backend   %-8s %-8s %s\n", b.Name, b.State, where)
		if b.Version != "" {
			fmt.Fprintf(env.out, "          %-8s %-8s version %s\n", "", "", strings.Trim(b.Version+", "+b.Build, ", "))
		}
		if b.Digest != "" {
			fmt.Fprintf(env.out, "          %-8s %-8s %s\n", "", "", provenance(&b))
		}
		if p := b.Probe; p != nil {
			fmt.Fprintf(env.out, "          %-8s %-8s %s\n", "", "", tried(p))
		}
		if b.Reason != "" {
			fmt.Fprintf(env.out, "          %-8s %-8s %s\n", "", "", b.Reason)
		}
		if i := b.Device; i != nil {
			fmt.Fprintf(env.out, "device    %-8s %s\n", b.Name, describe(i))
		}
	}
	printQuarantine(env, &d.Quarantine)
	if len(d.Ignored) > 0 {
		fmt.Fprintf(env.out, "ignored   %s: the process has privileges that its user lacks\n", strings.Join(d.Ignored, ", "))
	}
	fmt.Fprintf(env.out, "profile   %s %s\n", d.Profile.State, d.Profile.Path)
	if d.Profile.Reason != "" {
		fmt.Fprintf(env.out, "          %s\n", d.Profile.Reason)
	}
	for _, t := range d.SelfTest {
		verdict := "same bits as pure Go"
		if t.Fast {
			verdict = "fast numerics: what is exact is right; calibrate verify holds the rest against its bounds"
		}
		if !t.Passed {
			verdict = "WRONG: " + t.Detail
		}
		fmt.Fprintf(env.out, "self-test %-16s %s\n", t.Kernel, verdict)
	}
	for _, a := range d.Advice {
		text := a.Text
		if len(a.Gains) > 0 {
			text += "; expected, before measuring:"
		}
		fmt.Fprintf(env.out, "advice    %s\n", text)
		for _, g := range a.Gains {
			fmt.Fprintf(env.out, "          %-18s from %-12s %5.1f × as fast at %s\n", g.Op, g.From, g.Times, g.At)
		}
	}
}
