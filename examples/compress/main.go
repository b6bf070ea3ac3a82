// SPDX-License-Identifier: Apache-2.0

// Compress turns the weights of a model into ternary, quinary or sparse codes, and back.
//
//	compress [flags] IN OUT
//	compress -decompress IN OUT
//
// IN is a .safetensors file, the .safetensors.index.json of several, a .gguf or an .npy file; OUT is an .stn or a .gguf file. Decompressed, an .stn file becomes a .safetensors or an .npy file. docs/compress.md explains the flags
// and what the figures mean.
//
// Files are mapped where the system can and read by chunks of rows: they may be larger than the memory. A table goes to standard output, with -json as JSON; progress goes to standard error. OUT appears when all is done, or
// not at all. Exit codes: 0 fine, 1 failure, 2 wrong usage, 130 interrupted.
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
	"syscall"
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
		fmt.Fprintf(stderr, "compress: %v; -h shows the usage\n", err)
		return exitUsage
	}
	work := compress
	if o.decompress {
		work = decompress
	}
	p := newProgress(stderr, o.quiet)
	r, err := work(ctx, o, p)
	p.end()
	switch {
	case err == nil && o.json:
		err = json.NewEncoder(stdout).Encode(r)
	case err == nil:
		_, err = fmt.Fprint(stdout, r)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "compress: interrupted, nothing was written")
		return exitInterrupted
	}
	if err != nil {
		fmt.Fprintln(stderr, "compress:", err)
		return 1
	}
	return 0
}
