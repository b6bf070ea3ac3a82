// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/runtime"
)

func exportCommand(_ context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	thresholds := fs.Bool("thresholds", false, "a fixed table: which kernel runs from which size on, for runtime.WithThresholds")
	out := fs.String("out", "", "write to this file instead of standard output")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	rt, err := opened()
	if err != nil {
		return err
	}
	defer rt.Close()
	report := rt.Report()
	var data []byte
	if *thresholds {
		table := rt.Router().Fixed()
		table.Machine = fmt.Sprintf("%s, %d cores", report.Machine.CPU, report.Machine.Cores)
		if data, err = json.MarshalIndent(table, "", " "); err != nil {
			return err
		}
		data = append(data, '\n')
	} else {
		if report.Profile.State != "loaded" {
			return fmt.Errorf("there is no profile to export: %s %s; run: calibrate run", report.Profile.State, report.Profile.Reason)
		}
		if data, err = os.ReadFile(report.Profile.Path); err != nil {
			return err
		}
	}
	if *out != "" {
		return durable.WriteFile(*out, data, 0o644)
	}
	_, err = env.out.Write(data)
	return err
}

func resetCommand(_ context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	path, err := runtime.ProfilePath()
	if err != nil {
		return err
	}
	unlock, err := durable.Lock(path, 10*time.Second)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = durable.Files{}.SetAside(path, []string{path + ".old"}, true)
	missing := errors.Is(err, iofs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if *env.json {
		return env.printJSON(struct {
			Profile string `json:"profile"`
			Removed bool   `json:"removed"`
		}{path, !missing})
	}
	if missing {
		fmt.Fprintf(env.out, "there is no profile at %s\n", path)
		return nil
	}
	fmt.Fprintf(env.out, "the profile is now %s.old; predictions are from prior knowledge until `calibrate run`, or learning, makes another\n", path)
	return nil
}
