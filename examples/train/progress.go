// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/setun-compute/setun/train"
)

// progress draws a line on a terminal, and prints one at each evaluation elsewhere.
type progress struct {
	w          io.Writer
	terminal   bool
	steps      int
	name       string // of the run, when there are several
	begin      time.Time
	first      int // step that this process began with
	loss       float64
	validation float64
}

func newProgress(w io.Writer, steps int) *progress {
	p := &progress{w: w, steps: steps, begin: time.Now(), first: -1}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return p
}

func (p *progress) step(r train.Record) {
	if p.first < 0 {
		p.first, p.loss = r.Step-1, r.Loss
	}
	p.loss += (r.Loss - p.loss) / 20
	if r.Validation > 0 {
		p.validation = r.Validation
	}
	spent := time.Since(p.begin)
	left := time.Duration(float64(spent) / float64(r.Step-p.first) * float64(p.steps-r.Step)).Round(time.Second)
	text := fmt.Sprintf("%sstep %d of %d  loss %.3f", p.name, r.Step, p.steps, p.loss)
	if p.validation > 0 {
		text += fmt.Sprintf("  validation %.3f", p.validation)
	}
	if r.Mix > 0 {
		text += fmt.Sprintf("  ternary %.0f %%", 100*r.Mix)
	}
	text += fmt.Sprintf("  %.0f tokens/s  %v left", r.TokensPerSecond, left)
	switch {
	case p.terminal:
		const width = 20
		full := width * r.Step / p.steps
		fmt.Fprintf(p.w, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full), text)
	case r.Validation > 0:
		fmt.Fprintln(p.w, text)
	}
}

func (p *progress) warn(err error) {
	fmt.Fprintf(p.w, "%strain: %v; training goes on\n", p.newline(), err)
}

func (p *progress) newline() string {
	if p.terminal {
		return "\n"
	}
	return ""
}

func (p *progress) end() { fmt.Fprint(p.w, p.newline()) }
