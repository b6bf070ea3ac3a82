// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

// FuzzOptions reads command lines, an argument a line. What is taken lies in its range, and names two files.
func FuzzOptions(f *testing.F) {
	for _, args := range []string{"in.gguf out.stn", "-budget 1.5GiB -keep *x* in.npy -verify out.stn", "-max-error 0.1 in.safetensors out.gguf", "-budget 20.25x -levels sparse in.npy out.stn", "-decompress in.stn out.npy -force", "-group 32 -rule absmax in.npy out.stn",
		"-budget 1e308TB in.npy out.stn", "-budget NaNx in.npy out.stn", "-max-error Inf in.npy out.stn", "-group -1 in.npy out.stn", "-keep [ in.npy out.stn", "-demo gaussian -cluster 8 -histogram h.png in.npy out.stn", "-h", "-- -x"} {
		f.Add(strings.ReplaceAll(args, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parse(strings.Split(text, "\n"), io.Discard)
		if err != nil {
			if err.Error() == "" {
				t.Fatalf("%+v, an error without words", o)
			}
			return
		}
		switch {
		case o.in == "" || o.out == "" || errors.Is(err, flag.ErrHelp):
			t.Fatalf("%+v", o)
		case o.decompress:
			return
		case o.given["budget"] != (o.bytes > 0 || o.ratio > 0) || o.bytes < 0 || o.bytes > 1<<53 || !(o.ratio >= 0 && o.ratio <= 1<<53) || o.bytes > 0 && o.ratio > 0,
			!(o.maxError >= 0 && o.maxError < 1), o.given["max-error"] && o.maxError == 0, o.cluster < 0, o.group < 0 && o.group != quant.PerRow, o.levels == 0 && !o.planned():
			t.Fatalf("%q was taken: %+v", text, o)
		}
		for _, p := range []patterns{o.keep, o.quantize, o.drop} {
			for _, s := range p {
				if at, ok := p.match(s); ok && at == "" {
					t.Fatalf("%q", p)
				}
			}
		}
	})
}
