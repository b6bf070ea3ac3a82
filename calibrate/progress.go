// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress draws a bar on a terminal, and prints a line every tenth part elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	total    float64
	done     float64
	tenth    int
	begin    time.Time
}

func newProgress(w io.Writer, total float64) *progress {
	p := &progress{w: w, total: total, begin: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return p
}

// step counts a weight of work as done and names what comes next.
func (p *progress) step(weight float64, what string) {
	p.done += weight
	share := min(1, p.done/p.total)
	left := ""
	if spent := time.Since(p.begin); share > 0.05 && share < 1 {
		left = fmt.Sprintf(", %v left", time.Duration(float64(spent)*(1-share)/share).Round(time.Second))
	}
	if p.terminal {
		const width = 30
		full := int(share * width)
		fmt.Fprintf(p.w, "\r[%s%s] %3.0f %% %s%s\x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, what, left)
		return
	}
	if t := int(10 * share); t > p.tenth {
		p.tenth = t
		fmt.Fprintf(p.w, "%3.0f %% %s%s\n", 100*share, what, left)
	}
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
