// SPDX-License-Identifier: Apache-2.0

// Command train trains a small language model whose linear layers are ternary.
//
//	train -preset tiny                                      a minute on two cores: the Go source of this machine's Go
//	train -preset shakespeare -data tinyshakespeare.txt     nanoGPT's configuration for a processor
//	train -config run.json -out runs/1                      metrics.jsonl, checkpoint.stn, model.stn, summary.json and report.html go to the folder
//	train -config run.json -out runs/1 -resume              go on from its checkpoint, to the same bits
//	train -generate runs/1/model.stn -prompt "func "        text by a model, or by a checkpoint, without training; -sample, -seed, -temperature, -top
//	mpirun -n 2 train -preset tiny                          two processes, each with batches of its own; -compress ternary sends a twentieth of the bytes
//	train -preset tiny -compare -seeds 3                    the controls beside it: float32, no trust region, no auxiliary network …
//
// Progress goes to stderr, the result to stdout, as JSON with -json. It exits with 1 when training fails, 2 for a wrong command line, configuration or prompt, 130 when it was interrupted (a checkpoint is saved before).
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
	"strings"
	"syscall"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train"
	"github.com/setun-compute/setun/train/model"
	"github.com/setun-compute/setun/train/parallel"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // the latter is what mpirun sends
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is the command line.
type command struct {
	preset, config, data, out string
	compress, device          string
	peers                     parallel.Peers // nil until training begins
	resume, compare, json     bool
	steps, stop, seeds        int
	sample                    int
	seed                      uint64
	text                      generation
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("train", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var c command
	fs.StringVar(&c.preset, "preset", "tiny", "where to start from: "+strings.Join(train.Presets(), ", "))
	fs.StringVar(&c.config, "config", "", "a JSON file whose fields replace those of the preset")
	fs.StringVar(&c.data, "data", "", `"go", "opticks" or a file, in place of the configuration's`)
	fs.StringVar(&c.out, "out", "", "folder for metrics, checkpoint, summary and report; nothing is written without it")
	fs.StringVar(&c.compress, "compress", "", `"ternary", "ternary-row" or "float32": how gradients go to other processes, in place of the configuration's`)
	fs.StringVar(&c.device, "device", "", `"cuda:0" or another CUDA device: parameters and optimiser state live there, and all calls run there; the bits stay the same. By default each call runs where it is fastest`)
	fs.BoolVar(&c.resume, "resume", false, "go on from the folder's checkpoint")
	fs.BoolVar(&c.compare, "compare", false, "train the controls with equal tokens too, and print one table")
	fs.IntVar(&c.seeds, "seeds", 1, "with -compare: seeds of each")
	fs.IntVar(&c.steps, "steps", 0, "in place of the configuration's")
	fs.IntVar(&c.stop, "stop", 0, "stop after so many steps of the run, with a checkpoint")
	fs.IntVar(&c.sample, "sample", 400, "tokens of text at the end; 0: none")
	fs.Uint64Var(&c.seed, "seed", 0, "in place of the configuration's")
	fs.BoolVar(&c.json, "json", false, "print JSON")
	c.text.flags(fs)
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "train: %q is not a flag; see train -help\n", fs.Arg(0))
		return exitUsage
	}
	err := c.text.beside(fs)
	switch {
	case err == nil && c.text.file != "":
		err = c.generate(ctx, stdout)
	case err == nil:
		var config train.Config
		if config, err = c.configuration(); err == nil {
			err = c.together(stdout, stderr, func(rt *runtime.Runtime, stdout, stderr io.Writer) error {
				return c.train(ctx, rt, config, stdout, stderr)
			})
		}
	}
	if c.unheard(err) {
		return 0 // rank 0 tells the error and ends with its code: mpirun, at the first code other than 0, cuts short what others have to say
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "train: interrupted")
		return exitInterrupted
	case errors.Is(err, train.ErrModel): // whatever else is wrong with a file is no matter of the command line
	case errors.Is(err, train.ErrConfig), errors.Is(err, train.ErrPrompt), errors.Is(err, model.ErrArgument), errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "train:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "train:", err)
	return exitFailed
}

// configuration is the preset with the file's fields and the flags over it.
func (c *command) configuration() (train.Config, error) {
	config, err := train.Preset(c.preset)
	if err == nil && c.config != "" {
		config, err = train.Load(c.config, config)
	}
	if err != nil {
		return config, err
	}
	if c.data != "" {
		config.Data = c.data
	}
	if c.steps > 0 {
		config.Steps = c.steps
	}
	if c.seed > 0 {
		config.Seed = c.seed
	}
	switch c.compress {
	case "":
	case "float32":
		config.Compress = ""
	default:
		config.Compress = c.compress
	}
	if c.resume && c.out == "" {
		return config, fmt.Errorf("%w: -resume needs -out, the folder of the run", train.ErrConfig)
	}
	return config, config.Check()
}

func (c *command) train(ctx context.Context, rt *runtime.Runtime, config train.Config, stdout, stderr io.Writer) error {
	if c.compare {
		return c.compareAll(ctx, rt, config, stdout, stderr)
	}
	p := newProgress(stderr, config.Steps)
	s, _, err := train.Run(ctx, rt, config, train.Options{Folder: c.out, Resume: c.resume, Stop: c.stop, Sample: c.sample, Progress: p.step, Warn: p.warn, Peers: c.peers, Mapped: c.device != ""})
	p.end()
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(stdout, s)
	}
	fmt.Fprintf(stdout, "step %d: validation loss %.4f (best %.4f), batch loss %.4f\n", s.Step, s.Validation, s.Best, s.Loss)
	fmt.Fprintf(stdout, "%d parameters, %d of them ternary; %d tokens in %.1f s, %.0f a second; %.0f %% of the steps' time in the runtime's ops\n", s.Parameters, s.Ternary, s.Tokens, s.Seconds, float64(s.Tokens)/s.Seconds, 100*s.Runtime)
	if m := s.Model; m != nil {
		fmt.Fprintf(stdout, "model.stn: %d bytes, float32 takes %.2f times as many", m.Bytes, m.Ratio)
		if m.TernaryBytes > 0 {
			fmt.Fprintf(stdout, "; its ternary tensors: %d, %.2f times", m.TernaryBytes, m.TernaryRatio)
		}
		fmt.Fprintln(stdout)
	}
	printWire(stdout, &s)
	if s.Sample != "" {
		fmt.Fprintf(stdout, "\n%s\n", s.Sample)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
