// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// QuarantineReport tells what is remembered of libraries that brought a process down or gave wrong results, and what is amiss with that memory.
type QuarantineReport struct {
	Path     string             `json:"path"`               // of the list; empty: nothing is remembered between processes
	Entries  []quarantine.Entry `json:"entries,omitempty"`  // of all libraries, those that are not here too
	Running  []string           `json:"running,omitempty"`  // what processes had in kernels when they ended, and what came of that
	Notes    []string           `json:"notes,omitempty"`    // what could not be read, written or believed
	Unprobed bool               `json:"unprobed,omitempty"` // LIBRARIES ARE LOADED WITHOUT A PROBE
	Helper   string             `json:"helper,omitempty"`   // the program that makes the probes, when it is not this one

	found []string // of Running, what this Open has found
}

// ProbeReport tells how a library was tried before it was loaded.
type ProbeReport struct {
	Source  string        `json:"source"`  // "probe" now, "process" before in this one, "disk" by another one, "off": it was not
	Kernels int           `json:"kernels"` // that were tested
	Took    time.Duration `json:"took_ns"` // when it was tried
}

// guard makes what lets libraries in.
func (c *config) guard(m machine.Machine, r *Report) *probe.Guard {
	if c.state != "" {
		r.Quarantine.Notes = append(r.Quarantine.Notes, c.state)
	}
	c.probe.Devices, c.probe.Cores, c.probe.Level = c.cuda, m.Cores, c.isa
	return probe.New(m, c.probe)
}

// quarantine fills in what the guard found.
func (r *Report) quarantine(g *probe.Guard) {
	if g == nil {
		return
	}
	g.Forget()
	q := &r.Quarantine
	q.Path, q.Entries, q.Unprobed, q.Helper = g.Store().Path(), g.Store().List(), g.Off, g.Helper
	for _, s := range g.Store().Suspects() {
		text := probe.Describe(s)
		q.Running = append(q.Running, text)
		if slices.ContainsFunc(g.Found, func(o quarantine.Suspect) bool { return o.Flight == s.Flight }) {
			q.found = append(q.found, text)
		}
	}
	q.Notes = append(q.Notes, g.Store().Notes()...)
}

// probeReport is what the guard said of a library that it let in.
func probeReport(a plugin.Attempt) *ProbeReport {
	if a.Pass.Source == "" {
		return nil
	}
	return &ProbeReport{Source: a.Pass.Source, Kernels: a.Pass.Kernels, Took: a.Pass.Took}
}

// firstUse returns what marks the first use of a library's kernel, nil for what needs none: it has been used before, or is no library's.
func (rt *Runtime) firstUse(b backends.Backend, k backends.Kernel) *quarantine.Use {
	if rt.guard == nil {
		return nil
	}
	return rt.guard.Use(digestOf(b), k)
}

// firstCall calls a kernel that has not been used yet, with a mark that tells the next process what this one was doing if it does not come back. Of many such calls at once each has a mark of its own.
func firstCall[A any](m *arm, a A, do func(*arm, A) error) (err error) {
	slot := m.use.Begin()
	defer func() {
		used := err == nil
		m.use.End(slot, used)
		if used {
			m.used.Store(true)
		}
	}()
	return do(m, a)
}
