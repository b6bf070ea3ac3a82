// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress overwrites one line on a terminal and prints a plain line a tensor elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	colour   bool
	begin    time.Time
	shown    time.Time

	bytes, done int64 // of the work: all, and before the tensor that is being worked on
	what        string
	work        time.Time // when the work began
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, begin: time.Now()}
	if quiet {
		p.w = io.Discard
	} else if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	p.colour = p.terminal && os.Getenv("NO_COLOR") == ""
	return p
}

// show tells what is being done.
func (p *progress) show(format string, args ...any) {
	at, text := fmt.Sprintf("%7.1f s  ", time.Since(p.begin).Seconds()), fmt.Sprintf(format, args...)
	switch {
	case p.colour:
		fmt.Fprintf(p.w, "\r\x1b[2m%s\x1b[0m%s\x1b[K", at, text)
	case p.terminal:
		fmt.Fprintf(p.w, "\r%s%s\x1b[K", at, text)
	default:
		fmt.Fprintln(p.w, at+text)
	}
	p.shown = time.Now()
}

// start begins work on so many bytes of input.
func (p *progress) start(what string, bytes int64) {
	p.what, p.bytes, p.done, p.work = what, bytes, 0, time.Now()
}

// tensor tells that bytes of a tensor are done, of all its bytes. On a terminal that is seen some ten times a second, elsewhere when it is complete.
func (p *progress) tensor(name string, bytes, of int64) {
	if bytes < of && (!p.terminal || time.Since(p.shown) < 100*time.Millisecond) {
		return
	}
	done, took := p.done+bytes, time.Since(p.work).Seconds()
	speed := float64(done) / max(took, 1e-3)
	p.show("%s %s: %.0f %%, %.0f MB/s, %.0f s left", p.what, name, 100*float64(done)/float64(max(1, p.bytes)), speed/1e6, float64(p.bytes-done)/max(1, speed))
	if bytes == of {
		p.done += of
	}
}

// end leaves a terminal's line empty.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
