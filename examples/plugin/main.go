// SPDX-License-Identifier: Apache-2.0

// Plugin loads a backend of a third party, mine/mine.c in this folder or any other, holds it against pure Go, and shows which kernel each call goes to once they have been measured.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/dispatch"
	setun "github.com/setun-compute/setun/runtime"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plugin LIBRARY")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plugin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, library string, options ...setun.Option) error {
	path, err := filepath.Abs(library)
	if err != nil {
		return err
	}
	rt, err := setun.Open(append(options, setun.WithPlugin(path))...)
	if err != nil {
		return err
	}
	defer rt.Close()
	name := ""
	for _, b := range rt.Report().Backends {
		if b.Path != path {
			continue
		}
		if b.State != "loaded" {
			return fmt.Errorf("%s is %s: %s", b.Path, b.State, b.Reason)
		}
		for _, e := range rt.Report().Quarantine.Entries {
			if e.Digest == b.Digest {
				return fmt.Errorf("%s: %s is quarantined: %s", b.Path, e.Op, e.Reason)
			}
		}
		name = b.Name
		fmt.Fprintf(w, "%s %s is admitted: %s\n\n", b.Name, b.Version, strings.Join(b.Kernels, ", "))
	}
	if err := verify(ctx, w, rt, name); err != nil {
		return err
	}
	return race(w, rt, name)
}

// verify runs the conformance suite on the library's kernels.
func verify(ctx context.Context, w io.Writer, rt *setun.Runtime, name string) error {
	list := rt.Backends()
	b := list[slices.IndexFunc(list, func(b backends.Backend) bool { return b.Name() == name })]
	var ops []backends.Op
	for _, op := range backends.Ops() {
		for _, k := range b.Kernels() {
			if k.Op == op && (len(ops) == 0 || ops[len(ops)-1] != op) {
				ops = append(ops, op)
			}
		}
	}
	r, err := conform.Verify(ctx, conform.Arms(b), conform.Options{Ops: ops, Random: 100, Seed: 1})
	if err != nil {
		return err
	}
	for _, a := range r.Arms {
		if strings.HasPrefix(a.Arm, name+"/") {
			fmt.Fprintf(w, "%-16s %5d cases against pure Go, %d mismatches\n", a.Op, a.Cases, a.Mismatches)
		}
	}
	for _, f := range r.Failures {
		fmt.Fprintln(w, "MISMATCH", f)
	}
	if r.Mismatches > 0 {
		return fmt.Errorf("%d mismatches: its results are not those of docs/numerics.md", r.Mismatches)
	}
	return nil
}

// race makes calls of some sizes and tells which kernel each size goes to then.
func race(w io.Writer, rt *setun.Runtime, name string) error {
	fmt.Fprintf(w, "\nnorm2 goes to, after some thousand calls:\n")
	for _, n := range []int{100, 10_000, 1_000_000} {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i % 7)
		}
		for range 3_000_000/n + 200 {
			if _, err := rt.Norm2(x); err != nil {
				return err
			}
		}
		s := dispatch.Vector(backends.OpNorm2, n)
		d := rt.Decide(&s)
		fmt.Fprintf(w, "%10d values  %-14s %8.2f µs predicted\n", n, rt.Arms(backends.OpNorm2)[d.Arm], d.Nanos/1000)
	}
	fmt.Fprintln(w)
	for _, m := range rt.Metrics() {
		if strings.HasPrefix(m.Kernel, name+"/") {
			fmt.Fprintf(w, "%s ran %s %d times\n", m.Kernel, m.Op, m.Calls)
		}
	}
	return nil
}
