// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
)

// options are the command line.
type options struct {
	in, out string

	levels quant.Levels // 0: ternary, or all under a budget
	rule   quant.Rule
	group  int        // as in quant.Options; unset: a row, or several under a budget
	coding stn.Coding // 0: the smallest
	given  map[string]bool

	bytes    int64   // of the whole file; 0: no such budget
	ratio    float64 // the same as a share of float32's bytes: 20.25 for 20.25x
	maxError float64

	keep, quantize, drop patterns

	cluster                                int
	histogram, demo                        string
	decompress, verify, json, quiet, force bool
}

// patterns are names with * and ?.
type patterns []string

// String joins them.
func (p *patterns) String() string { return strings.Join(*p, " ") }

// Set adds one; it is called by the flag package.
func (p *patterns) Set(s string) error {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return errors.New("not a pattern")
	}
	*p = append(*p, s)
	return nil
}

// match returns the first pattern that a name has. A * goes over every character.
func (p patterns) match(name string) (string, bool) {
	flat := strings.ReplaceAll(name, "/", ".") // which * of path.Match would stop at
	for _, s := range p {
		if ok, _ := path.Match(strings.ReplaceAll(s, "/", "."), flat); ok {
			return s, true
		}
	}
	return "", false
}

// ours says whether a file is of our own format, by its name.
func (o *options) ours() bool { return ext(o.out) == ".stn" }

func ext(name string) string { return strings.ToLower(filepath.Ext(name)) }

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{given: map[string]bool{}, rule: quant.LeastSquares, group: quant.PerRow}
	var levels, rule, group, coding, budget string
	fs := flag.NewFlagSet("compress", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error, once
	fs.StringVar(&levels, "levels", "", "ternary, quinary or sparse; default ternary, under a budget all")
	fs.StringVar(&rule, "rule", "least-squares", "absmean, least-squares, absmax or magnitude: how scales are found")
	fs.StringVar(&group, "group", "", "values that share a scale: a number, row or tensor; default row, under a budget 32, 128 and row; 256 in .gguf")
	fs.StringVar(&coding, "coding", "auto", "auto, planes, rans, classes, 2bit, base3 or four5; in .gguf base3 is TQ1_0 and 2bit is TQ2_0")
	fs.StringVar(&budget, "budget", "", "the largest size of the file: 120MB, 1.5GiB, or 20.25x for float32's bytes over 20.25; the least error within it is sought")
	fs.Float64Var(&o.maxError, "max-error", 0, "the largest ‖x − q‖²/‖x‖² of all matrices that are not kept; the fewest bytes within it are sought")
	fs.Var(&o.keep, "keep", "names of tensors that stay floating-point, beside norms, embeddings and heads; a pattern with * and ?, may be given again")
	fs.Var(&o.quantize, "quantize", "names of tensors that become codes although they would be kept; a pattern, may be given again")
	fs.Var(&o.drop, "drop", "names of tensors that are left out; a pattern, may be given again")
	fs.BoolVar(&o.verify, "verify", false, "read what was written, and compare all codes, scales and values")
	fs.StringVar(&o.histogram, "histogram", "", "draw the values, thresholds and levels to this PNG file")
	fs.IntVar(&o.cluster, "cluster", 0, "tell what one scale for each of so many clusters of rows would bring; not for .gguf")
	fs.StringVar(&o.demo, "demo", "", "make IN first, an .npy file of 4096×4096 values: gaussian or laplace")
	fs.BoolVar(&o.decompress, "decompress", false, "turn an .stn file into a .safetensors or .npy file")
	fs.BoolVar(&o.force, "force", false, "replace OUT, and the picture of -histogram, when they are there")
	fs.BoolVar(&o.json, "json", false, "print the report as JSON")
	fs.BoolVar(&o.quiet, "quiet", false, "show no progress")
	var files []string
	for len(args) > 0 { // the flag package stops at the first file; flags may follow it
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintln(stderr, "usage: compress [flags] IN.(safetensors|safetensors.index.json|gguf|npy) OUT.(stn|gguf)\n       compress -decompress IN.stn OUT.(safetensors|npy)")
				fs.SetOutput(stderr)
				fs.PrintDefaults()
			}
			return nil, err
		}
		if args = fs.Args(); len(args) > 0 {
			files, args = append(files, args[0]), args[1:]
		}
	}
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if len(files) != 2 {
		return nil, fmt.Errorf("%d files given, IN and OUT are needed", len(files))
	}
	o.in, o.out = files[0], files[1]
	if o.decompress {
		return o, o.checkDecompress()
	}
	var err error
	if o.levels, err = named(levels, "-levels", map[string]quant.Levels{"": 0, "ternary": quant.Ternary, "quinary": quant.Quinary, "sparse": quant.Sparse}); err != nil {
		return nil, err
	}
	rules := map[string]quant.Rule{"absmean": quant.AbsMean, "least-squares": quant.LeastSquares, "absmax": quant.AbsMax, "magnitude": quant.Magnitude}
	if o.rule, err = named(rule, "-rule", rules); err != nil {
		return nil, err
	}
	codings := map[string]stn.Coding{"auto": 0, "planes": stn.Planes, "rans": stn.RANS, "classes": stn.Classes, "2bit": stn.Bits2, "base3": stn.Base3, "four5": stn.Four5}
	if o.coding, err = named(coding, "-coding", codings); err != nil {
		return nil, err
	}
	switch group {
	case "", "row":
	case "tensor":
		o.group = 0
	default:
		if o.group, err = strconv.Atoi(group); err != nil || o.group < 1 {
			return nil, fmt.Errorf("-group %q is neither a positive number nor row or tensor", group)
		}
	}
	if budget != "" {
		if o.bytes, o.ratio, err = parseBudget(budget); err != nil {
			return nil, err
		}
	}
	return o, o.check()
}

func named[T any](s, flag string, names map[string]T) (T, error) {
	v, ok := names[s]
	if !ok {
		return v, fmt.Errorf("%s %q is not known", flag, s)
	}
	return v, nil
}

// parseBudget reads "120MB" as bytes and "20.25x" as a ratio.
func parseBudget(s string) (bytes int64, ratio float64, err error) {
	number := strings.TrimRight(s, "kKMGTiBbx")
	v, err := strconv.ParseFloat(number, 64)
	unit, ok := map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "x": 0}[s[len(number):]]
	if err != nil || !ok || !(v > 0) || v*unit > 1<<53 || v > 1<<53 {
		return 0, 0, fmt.Errorf("-budget %q is neither a size as 120MB nor a ratio as 20.25x", s)
	}
	if unit == 0 {
		return 0, v, nil
	}
	return int64(v * unit), 0, nil
}

// planned says whether candidates are measured and chosen from.
func (o *options) planned() bool { return o.given["budget"] || o.given["max-error"] }

func (o *options) check() error {
	in, out := ext(o.in), ext(o.out)
	sparse := o.levels == quant.Sparse
	switch {
	case in != ".safetensors" && in != ".gguf" && in != ".npy" && !strings.HasSuffix(strings.ToLower(o.in), ".safetensors.index.json"):
		return fmt.Errorf("%s: .safetensors, .safetensors.index.json, .gguf and .npy files are read (.stn with -decompress)", o.in)
	case out != ".stn" && out != ".gguf":
		return fmt.Errorf("%s: .stn and .gguf files are written", o.out)
	case o.demo != "" && (o.demo != "gaussian" && o.demo != "laplace" || in != ".npy"):
		return errors.New("-demo makes an .npy file of gaussian or laplace values")
	case o.given["budget"] && o.given["max-error"]:
		return errors.New("-budget and -max-error exclude each other")
	case o.given["max-error"] && !(o.maxError > 0 && o.maxError < 1):
		return fmt.Errorf("-max-error %v is not between 0 and 1", o.maxError)
	case o.cluster < 0 || o.given["cluster"] && o.cluster < 1:
		return fmt.Errorf("-cluster %d is not positive", o.cluster)
	case o.cluster > 0 && out == ".gguf":
		return errors.New("-cluster: a .gguf file has a scale for each 256 values, not one a row; write an .stn file")
	case o.histogram != "" && filepath.Clean(o.histogram) == filepath.Clean(o.in):
		return fmt.Errorf("-histogram %s is the input", o.histogram)
	case o.histogram != "" && filepath.Clean(o.histogram) == filepath.Clean(o.out):
		return fmt.Errorf("-histogram %s is the output", o.histogram)
	case sparse && o.rule != quant.LeastSquares && o.rule != quant.Magnitude:
		return fmt.Errorf("-rule %v does not find the scale of sparse codes; least-squares and magnitude do", o.rule)
	case o.levels == quant.Quinary && o.coding != 0 && o.coding != stn.RANS:
		return fmt.Errorf("-coding %v does not hold quinary codes; rans does", o.coding)
	case o.coding == stn.Classes && (sparse || o.levels == quant.Quinary):
		return fmt.Errorf("-coding %v holds ternary codes only", o.coding)
	case o.coding == stn.Four5 && !sparse:
		return errors.New("-coding four5 holds sparse codes only")
	case out == ".gguf" && o.levels != 0 && o.levels != quant.Ternary:
		return fmt.Errorf("-levels %v: .gguf has ternary codes only; write an .stn file", o.levels)
	case out == ".gguf" && o.given["group"] && o.group != 256:
		return errors.New("-group: a .gguf file has a scale for each 256 values; write an .stn file for others")
	case out == ".gguf" && o.coding != 0 && o.coding != stn.Base3 && o.coding != stn.Bits2:
		return fmt.Errorf("-coding %v: .gguf has base3 (TQ1_0) and 2bit (TQ2_0); write an .stn file", o.coding)
	}
	if out == ".gguf" {
		o.group = 256
	}
	if o.levels == 0 && !o.planned() {
		o.levels = quant.Ternary
	}
	return nil
}

func (o *options) checkDecompress() error {
	for name := range o.given {
		switch name {
		case "decompress", "force", "json", "quiet", "drop":
		default:
			return fmt.Errorf("-%s has no meaning with -decompress", name)
		}
	}
	switch out := ext(o.out); {
	case ext(o.in) != ".stn":
		return fmt.Errorf("%s: .stn files are decompressed", o.in)
	case out != ".safetensors" && out != ".npy":
		return fmt.Errorf("%s: .safetensors and .npy files are written", o.out)
	}
	return nil
}
