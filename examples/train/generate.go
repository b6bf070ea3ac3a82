// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train"
	"github.com/setun-compute/setun/train/model"
)

// errUsage is a command line that makes no sense.
var errUsage = errors.New("wrong command line")

// generation is what the flags say of text that is to be written without training.
type generation struct {
	file, prompt string
	temperature  float64
	top          int
}

func (g *generation) flags(fs *flag.FlagSet) {
	fs.StringVar(&g.file, "generate", "", "a model.stn or checkpoint.stn: write -sample tokens of text by it, with -seed, and train nothing")
	fs.StringVar(&g.prompt, "prompt", "", "with -generate: what the text begins with; empty: a new line")
	fs.Float64Var(&g.temperature, "temperature", 0.8, "with -generate: 0 takes the most likely token, 1 draws as the model says")
	fs.IntVar(&g.top, "top", 40, "with -generate: draw from so many of the most likely tokens; 0: all")
}

// beside lists flags that say nothing together with -generate, and flags of it that say nothing without.
func (g *generation) beside(fs *flag.FlagSet) error {
	with := map[string]bool{"generate": true, "prompt": true, "temperature": true, "top": true, "sample": true, "seed": true, "json": true}
	own := map[string]bool{"prompt": true, "temperature": true, "top": true}
	var wrong []string
	fs.Visit(func(f *flag.Flag) {
		if g.file != "" && !with[f.Name] || g.file == "" && own[f.Name] {
			wrong = append(wrong, "-"+f.Name)
		}
	})
	switch {
	case len(wrong) == 0:
		return nil
	case g.file == "":
		return fmt.Errorf("%w: %s without -generate", errUsage, strings.Join(wrong, ", "))
	}
	return fmt.Errorf("%w: %s beside -generate, which trains nothing", errUsage, strings.Join(wrong, ", "))
}

// generated is the result as JSON.
type generated struct {
	File        string       `json:"file"`
	Kind        string       `json:"kind"` // "model" or "checkpoint"
	Step        int          `json:"step"`
	Model       model.Config `json:"model"`
	Seed        uint64       `json:"seed"`
	Temperature float64      `json:"temperature"`
	Top         int          `json:"top"`
	Prompt      string       `json:"prompt"`
	Text        string       `json:"text"`   // what follows it
	Tokens      []int32      `json:"tokens"` // of the text, before bytes that are not UTF-8 were replaced
	Seconds     float64      `json:"seconds"`
	Speed       float64      `json:"tokens_per_second"`
}

// generate writes prompt and text to stdout as it comes; as JSON, all at the end.
func (c *command) generate(ctx context.Context, stdout io.Writer) error {
	rt, err := runtime.Open()
	if err != nil {
		return err
	}
	defer rt.Close()
	l, err := train.OpenModel(rt, c.text.file)
	if err != nil {
		return err
	}
	o := train.GenerateOptions{Prompt: c.text.prompt, Tokens: c.sample, Temperature: c.text.temperature, Top: c.text.top, Seed: c.seed}
	g := generated{File: c.text.file, Kind: l.Kind, Step: l.Step, Model: l.Model, Seed: o.Seed, Temperature: o.Temperature, Top: o.Top, Prompt: o.Prompt, Tokens: []int32{}}
	begin, text, shown := time.Now(), []byte(nil), false
	err = l.Generate(ctx, o, func(token int32, piece []byte) error {
		if c.json {
			g.Tokens, text = append(g.Tokens, token), append(text, piece...)
			return nil
		}
		if !shown { // not before the prompt has been accepted
			piece, shown = append([]byte(o.Prompt), piece...), true
		}
		_, err := stdout.Write(piece)
		return err
	})
	if err != nil {
		return err
	}
	if c.json {
		g.Text, g.Seconds = strings.ToValidUTF8(string(text), "\uFFFD"), time.Since(begin).Seconds()
		g.Speed = float64(len(g.Tokens)) / max(g.Seconds, 1e-9)
		return printJSON(stdout, g)
	}
	if !shown {
		fmt.Fprint(stdout, o.Prompt)
	}
	_, err = fmt.Fprintln(stdout)
	return err
}
