// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress overwrites one line on a terminal and prints plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	begin    time.Time
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, begin: time.Now()}
	if quiet {
		p.w = io.Discard
	} else if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return p
}

// show tells what is being done.
func (p *progress) show(format string, args ...any) {
	text := fmt.Sprintf("%7.1f s  ", time.Since(p.begin).Seconds()) + fmt.Sprintf(format, args...)
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s\x1b[K", text)
	} else {
		fmt.Fprintln(p.w, text)
	}
}

// iteration is the Progress of KMeansOptions.
func (p *progress) iteration(i int, changed int64) {
	p.show("iteration %d: %d labels changed", i, changed)
}

// end leaves a terminal's line empty.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
