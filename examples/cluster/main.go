// SPDX-License-Identifier: Apache-2.0

// Cluster groups the rows of an npy file by k-means and draws what it found.
//
//	cluster [flags] vectors.npy -k 256 -out DIR
//
// The file holds a matrix of little-endian float32 values, which are mapped, not read, where the system can: a file may be larger than
// the memory; it is read once an iteration, and once for each starting centroid. (float64 and float16 are converted in memory.) Beyond the input that
// takes 8 bytes a row, 12 in an iteration that finds an empty cluster, some copies of the centroids, and at most 400 MiB for the picture.
//
// DIR gets labels.npy (int32, the cluster of each row), centroids.npy (float32), report.json and picture.png, all or none. Results go to standard output,
// with -json as JSON; progress goes to standard error. Exit codes: 0 fine, 1 failure, 2 wrong usage, 130 interrupted.
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
	"time"

	"github.com/setun-compute/setun/internal/npy"
	setun "github.com/setun-compute/setun/runtime"
)

// Exit codes beside 0 and 1.
const (
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "cluster: %v; -h shows the usage\n", err)
		return exitUsage
	}
	switch err = cluster(ctx, o, stdout, stderr); {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "cluster: interrupted, nothing was written")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "cluster:", err)
	return 1
}

// options are the command line.
type options struct {
	file, out                                    string
	k, iterations                                int
	tol                                          float64
	seed                                         uint64
	suggest, minibatch, json, quiet, force, demo bool
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error, once
	fs.IntVar(&o.k, "k", 0, "clusters; needed unless -suggest is given")
	fs.BoolVar(&o.suggest, "suggest", false, "choose k from the data")
	fs.BoolVar(&o.minibatch, "minibatch", false, "update from a sample of the rows an iteration")
	fs.IntVar(&o.iterations, "iterations", 300, "iterations at most")
	fs.Float64Var(&o.tol, "tol", 0, "stop when the centroids' squared movement is below this share of the mean variance of a column; 0: when no label changes")
	fs.Uint64Var(&o.seed, "seed", 0, "of the starting centroids and of the picture's sample")
	fs.StringVar(&o.out, "out", "", "the folder to write to; needed")
	fs.BoolVar(&o.force, "force", false, "replace earlier results in the folder")
	fs.BoolVar(&o.json, "json", false, "print the report as JSON")
	fs.BoolVar(&o.quiet, "quiet", false, "show no progress")
	fs.BoolVar(&o.demo, "demo", false, "make the file first: the bytes of Go's own source, a row for each 4 KiB")
	var files []string
	for len(args) > 0 { // the flag package stops at the first file; flags may follow it
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintln(stderr, "usage: cluster [flags] vectors.npy (-k N | -suggest) -out DIR")
				fs.SetOutput(stderr)
				fs.PrintDefaults()
			}
			return nil, err
		}
		if args = fs.Args(); len(args) > 0 {
			files, args = append(files, args[0]), args[1:]
		}
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case len(files) != 1:
		return nil, fmt.Errorf("%d files given, one is needed", len(files))
	case o.out == "":
		return nil, errors.New("-out is needed")
	case o.suggest && given["k"]:
		return nil, errors.New("-k and -suggest exclude each other")
	case !o.suggest && o.k < 1:
		return nil, errors.New("-k must be given, and be positive")
	case o.iterations < 1:
		return nil, fmt.Errorf("-iterations %d is not positive", o.iterations)
	case !(o.tol >= 0):
		return nil, fmt.Errorf("-tol %v is negative or not a number", o.tol)
	}
	o.file = files[0]
	return o, nil
}

// cluster does the work of the command line.
func cluster(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	p := newProgress(stderr, o.quiet)
	defer p.end()
	if o.demo {
		p.show("making %s", o.file)
		if err := demo(ctx, o.file); err != nil {
			return err
		}
	}
	p.show("opening %s", o.file)
	data, err := npy.OpenFloats(ctx, o.file)
	if err != nil {
		return err
	}
	defer data.Close()
	if len(data.Shape) != 2 {
		return fmt.Errorf("%s: the shape is %s; a matrix with a row for each point is needed", o.file, data.ShapeString())
	}
	out, err := newOutput(o.out, o.force)
	if err != nil {
		return err
	}
	defer out.discard()
	rt, err := setun.Open()
	if err != nil {
		return err
	}
	defer rt.Close() // before the points go

	dim := data.Shape[1]
	settings := setun.KMeansOptions{K: o.k, MaxIter: o.iterations, Tol: o.tol, Seed: o.seed, Progress: p.iteration}
	var reason string
	if o.suggest {
		p.show("choosing k")
		if settings.K, reason, err = chooseK(ctx, rt, data.Values, dim, o.seed); err != nil {
			return fmt.Errorf("%s: %w", o.file, err)
		}
	}
	if o.minibatch {
		setBatch(&settings)
	}
	p.show("choosing %d starting centroids", settings.K)
	begin := time.Now()
	c, err := rt.KMeans(ctx, nil, data.Values, dim, settings)
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	r := newReport(o, data, c, rt.Metrics(), time.Since(begin))
	r.Reason = reason

	p.show("drawing and writing")
	if err := out.write(ctx, r, data.Values, c); err != nil {
		return err
	}
	p.end()
	if o.json {
		return json.NewEncoder(stdout).Encode(r)
	}
	_, err = fmt.Fprintf(stdout, "%swritten to %s: %s\n", r, o.out, strings.Join(outputs(), ", "))
	return err
}
