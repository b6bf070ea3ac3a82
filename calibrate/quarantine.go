// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// quarantined is what `calibrate quarantine` prints.
type quarantined struct {
	Path    string             `json:"path"`
	Entries []quarantine.Entry `json:"entries"`
	Lifted  []quarantine.Entry `json:"lifted,omitempty"`
	Notes   []string           `json:"notes,omitempty"`
}

func quarantineCommand(_ context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return exit{exitUsage, err.Error()}
	}
	lift := fs.NArg() == 2 && fs.Arg(0) == "lift"
	if fs.NArg() > 0 && !lift {
		fs.Usage()
		return exit{exitUsage, "what is expected is nothing, or: lift DIGEST, or: lift all"}
	}
	folder, note := quarantine.Folder()
	if folder == "" {
		return fmt.Errorf("there is no quarantine: %s", note)
	}
	store := quarantine.At(folder)
	_, running := store.Sweep()
	var lifted []quarantine.Entry
	var err error
	if lift {
		if lifted, err = store.Lift(fs.Arg(1)); err != nil {
			return err
		}
	}
	q := quarantined{Path: store.Path(), Entries: append([]quarantine.Entry{}, store.List()...), Lifted: lifted, Notes: store.Notes()}
	for _, s := range running { // nobody else will find them
		q.Notes = append(q.Notes, probe.Describe(s))
	}
	if *env.json {
		err = env.printJSON(q)
	} else {
		q.print(env.out, lift)
	}
	if err == nil && lift && len(lifted) == 0 {
		err = fmt.Errorf("nothing is quarantined whose digest begins with %q", fs.Arg(1))
	}
	return err
}

func (q *quarantined) print(out io.Writer, lift bool) {
	for _, e := range q.Lifted {
		fmt.Fprintf(out, "lifted       %s of %s; it is tried again when it is next looked for\n", e.Op, e.File)
	}
	if len(q.Entries) == 0 && !lift {
		fmt.Fprintf(out, "nothing is quarantined (%s)\n", q.Path)
	}
	for _, e := range q.Entries {
		fmt.Fprintf(out, "quarantined  %s: %v\n", e.File, e)
	}
	for _, n := range q.Notes {
		fmt.Fprintf(out, "note         %s\n", n)
	}
}

// places are where libraries are looked for by commands that load them without a runtime. They are tried first, as a runtime does.
func places(devices ...int) ([]plugin.Place, error) {
	s, _, err := probe.FromEnvironment()
	if err != nil {
		return nil, err
	}
	m := machine.Detect()
	s.Devices, s.Cores = devices, m.Cores
	return plugin.Guarded(plugin.DefaultPlaces(nil), probe.New(m, s)), nil
}
