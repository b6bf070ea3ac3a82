// SPDX-License-Identifier: Apache-2.0

// Calibrate measures this machine for Setun's dispatcher and explains what the dispatcher does.
//
//	calibrate run [--quick]     measure every kernel, fit, save the profile, print who wins from which size
//	calibrate show [OP]         print, or draw, what was measured and from which size each kernel wins
//	calibrate explain OP SHAPE  say which kernel a call goes to, and why
//	calibrate bench             compare all kernels: time, throughput, share of the roofline, speed-up
//	calibrate record            run a program and write its calls to a trace
//	calibrate regret            what the dispatcher's choices lose over made-up workloads, or policies over a trace
//	calibrate export, reset     the profile, or a fixed table made of it; put the profile aside
//	calibrate verify            hold every kernel against pure Go, bit for bit
//	calibrate quarantine        list libraries and ops that are not used because they crashed or were wrong; lift DIGEST, lift all
//	calibrate doctor            say what was found, loaded and refused, and check every kernel against pure Go
//
// Results go to standard output, with --json as JSON; progress goes to standard error. Exit codes: 0 fine, 1 failure, 2 wrong
// usage, 4 a kernel gave a wrong result, 5 something that is there cannot be used, 130 interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// Exit codes beside 0 and 1.
const (
	exitUsage       = 2
	exitWrong       = 4
	exitDegraded    = 5
	exitInterrupted = 130
)

// exit is an error that carries an exit code.
type exit struct {
	code int
	msg  string
}

func (e exit) Error() string { return e.msg }

// command is a subcommand. Its run gets the arguments that follow its name.
type command struct {
	name, args, help string
	run              func(ctx context.Context, env *environment, fs *flag.FlagSet, args []string) error
}

// environment is where a command writes.
type environment struct {
	out, err io.Writer
	json     *bool
}

var commands = []command{
	{"run", "[--quick] [--out FILE]", "measure every kernel and save the profile", runCommand},
	{"show", "[--plot FILE] [OP]", "print the models and from which size each kernel wins; draw time against size", showCommand},
	{"explain", "OP SHAPE", "say which kernel a call goes to, and why", explainCommand},
	{"bench", "[--op OP] [--quick]", "compare all kernels", benchCommand},
	{"record", "[--out FILE] -- PROGRAM …", "run a program and write its calls to a trace", recordCommand},
	{"regret", "[--calls N] [--trace FILE]", "what the dispatcher's choices lose against the best kernel for each call, over made-up workloads", regretCommand},
	{"verify", "[--seed N] [--pure]", "hold every kernel against pure Go, bit for bit, and print a digest that is the same on every machine", verifyCommand},
	{"export", "[--thresholds] [--out FILE]", "print the profile, or a fixed table made of it", exportCommand},
	{"reset", "", "put the profile aside", resetCommand},
	{"quarantine", "[lift DIGEST|all]", "list what is not used because it crashed or was wrong, or lift that", quarantineCommand},
	{"doctor", "", "say what was found and check every kernel", doctorCommand},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := dispatchCommand(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// dispatchCommand runs a subcommand and returns the exit code.
func dispatchCommand(ctx context.Context, args []string, out, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage(stderr)
		if len(args) == 0 {
			return exitUsage
		}
		return 0
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		fs.SetOutput(stderr)
		fs.Usage = func() {
			fmt.Fprintf(stderr, "usage: calibrate %s %s\n%s\n", c.name, c.args, c.help)
			fs.PrintDefaults()
		}
		env := &environment{out: out, err: stderr, json: fs.Bool("json", false, "print JSON")}
		err := c.run(ctx, env, fs, args[1:])
		var e exit
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &e):
			fmt.Fprintf(stderr, "calibrate %s: %s\n", c.name, e.msg)
			return e.code
		case ctx.Err() != nil:
			fmt.Fprintf(stderr, "\ncalibrate %s: interrupted, nothing was saved\n", c.name)
			return exitInterrupted
		}
		fmt.Fprintf(stderr, "calibrate %s: %v\n", c.name, err)
		return 1
	}
	fmt.Fprintf(stderr, "calibrate: there is no command %q\n\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: calibrate COMMAND [--json] …")
	fmt.Fprintln(w)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-10s %-29s %s\n", c.name, c.args, c.help)
	}
	fmt.Fprintln(w, "\nfor example: calibrate run --quick && calibrate explain quantize 1000000")
}

// parse parses flags and checks how many arguments are left.
func parse(fs *flag.FlagSet, args []string, want int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return exit{exitUsage, err.Error()}
	}
	if fs.NArg() != want {
		fs.Usage()
		return exit{exitUsage, fmt.Sprintf("%d arguments, %d expected", fs.NArg(), want)}
	}
	return nil
}

// printJSON writes v on a line of its own.
func (e *environment) printJSON(v any) error { return json.NewEncoder(e.out).Encode(v) }
