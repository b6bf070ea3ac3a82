// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/trace"
	"github.com/setun-compute/setun/runtime"
)

func recordCommand(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	out := fs.String("out", "setun.trace", "write the trace to this file, which must not exist yet")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return exit{exitUsage, err.Error()}
	}
	if fs.NArg() == 0 {
		fs.Usage()
		return exit{exitUsage, "no program to run, as in: calibrate record --out my.trace -- ./my-program --its-flags"}
	}
	path, err := filepath.Abs(*out)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return exit{exitUsage, fmt.Sprintf("%s is there already", path)}
	}
	program := exec.CommandContext(ctx, fs.Arg(0), fs.Args()[1:]...)
	program.Env = append(os.Environ(), runtime.TraceVariable+"="+path)
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, env.err, env.err
	failed := program.Run()
	t, err := readTrace(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.Join(failed, fmt.Errorf("the program wrote no trace: it opened no runtime of this version"))
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	type line struct {
		Op    string  `json:"op"`
		Calls int     `json:"calls"`
		Nanos float64 `json:"ns"`
	}
	var lines []line
	for _, op := range backends.Ops() {
		l := line{Op: op.String()}
		for _, c := range t.Calls {
			if c.Op == l.Op {
				l.Calls++
				l.Nanos += c.Nanos * max(1, c.Parts)
			}
		}
		if l.Calls > 0 {
			lines = append(lines, l)
		}
	}
	if *env.json {
		return errors.Join(failed, env.printJSON(struct {
			Trace string `json:"trace"`
			Torn  bool   `json:"torn"`
			More  bool   `json:"more"` // calls beyond those that are read
			Ops   []line `json:"ops"`
		}{path, t.Torn, t.More, lines}))
	}
	for _, l := range lines {
		fmt.Fprintf(env.out, "%-20s %9d calls %10s\n", l.Op, l.Calls, dispatch.Duration(l.Nanos))
	}
	fmt.Fprintf(env.out, "%d calls written to %s; try: calibrate regret --trace %s\n", len(t.Calls), path, *out)
	return failed
}

func readTrace(path string) (*trace.Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := trace.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}
