// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

func explainCommand(_ context.Context, env *environment, fs *flag.FlagSet, args []string) error {
	if err := parse(fs, args, 2); err != nil {
		return err
	}
	shape, err := dispatch.ParseShape(fs.Arg(0), fs.Arg(1))
	if errors.Is(err, dispatch.ErrShape) {
		return exit{exitUsage, err.Error()}
	}
	rt, err := runtime.Open()
	if err != nil {
		return err
	}
	defer rt.Close()
	x := rt.Explain(shape)
	if *env.json {
		return env.printJSON(x)
	}
	fmt.Fprint(env.out, x)
	return nil
}
