// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/internal/selftest"
)

// Suspects, which were running when processes ended, are tried once more by a probe before anything else. Their shapes are larger than those of other trials, and a process that ended may have had many: so a
// probe tries some of them, and an end that want of time or memory may have brought about is held against nobody.

const (
	maxAgain    = 8                                                // suspects a probe tries, the latest; the others wait for the next one
	memoryOf    = 30 * 24 * time.Hour                              // a suspect of a library that does not come by any more
	expecting   = "computing in pure Go what is expected of call " // begins a step that is followed by one that ends so:
	againSuffix = " on a shape that it had when a process ended"   // which is within the library's call
)

// of says whether the call was one of a kernel.
func (c *call) of(k backends.Kernel) bool { return k.Op.String() == c.Op && k.Name == c.Kernel }

// again tries, in the child, what was running when processes ended.
func (r *result) again(s *spec, b backends.Backend, step func(at string)) {
	var a selftest.Again
	if len(s.Again) > 0 && r.Again == nil {
		r.Again = slices.Repeat([]string{quarantine.Gone}, len(s.Again))
	}
	for i, c := range s.Again {
		if c.Op == quarantine.Copies { // any trial on a device makes some
			r.Again[i] = quarantine.Usual
		}
		for _, k := range b.Kernels() {
			if !c.of(k) {
				continue
			}
			step(expecting + strconv.Itoa(i+1))
			tried, failures, err := a.Run(b, k, shape(k.Op, c.Variant, c.Sizes), func() { step(c.Op + "/" + c.Kernel + againSuffix) })
			switch {
			case errors.Is(err, backends.ErrMemory):
				r.Again[i] = quarantine.Untried
			case err != nil:
				r.fail(transient, plugin.Failed, err)
				return
			case tried && r.Again[i] == quarantine.Gone:
				r.Again[i] = quarantine.Passed
			case r.Again[i] == quarantine.Gone:
				r.Again[i] = quarantine.Usual
			}
			r.wrong(failures)
			debug.FreeOSMemory()
		}
	}
}

// again lists what was running of a library when processes ended, but for ops that are not used.
func (g *Guard) again(l quarantine.Library, p *plugin.Pass) []quarantine.Suspect {
	return slices.DeleteFunc(g.store.Pending(l), func(s quarantine.Suspect) bool {
		for op := range p.Withheld {
			if op.String() == s.Op {
				return true
			}
		}
		return false
	})
}

// calls are suspects as the child is told of them.
func calls(list []quarantine.Suspect) (all []call) {
	for _, s := range list {
		all = append(all, call{s.Op, s.Name, s.Variant, s.Sizes})
	}
	return all
}

// retry makes probes with some of the suspects until one comes to its end or has none, and returns that one with those that it had. When it crashed in a library's call the op is quarantined, and it goes on
// with the others. When it ended otherwise, what it was trying again could not be tried, and the others wait for another time: the library is judged without them, and nobody waits for many probes.
func (g *Guard) retry(again []quarantine.Suspect, probe func([]quarantine.Suspect) outcome) (o outcome, left []quarantine.Suspect) {
	again = again[max(0, len(again)-maxAgain):]
	for {
		if o = probe(again); o.died == "" || o.absent || len(again) == 0 {
			return o, again
		}
		if o.trying < 1 || o.trying > len(again) { // or a library has written where the child writes
			again = nil
			continue
		}
		s := again[o.trying-1]
		if !o.crashed() {
			g.store.Settle([]quarantine.Suspect{s}, quarantine.Untried)
			again = nil
			continue
		}
		g.store.Add(s.Library, s.Op, "the process that tried it once more "+o.died+", when "+doing(o.at))
		of := func(o quarantine.Suspect) bool { return o.Op == s.Op }
		g.store.Settle(slices.DeleteFunc(slices.Clone(again), func(s quarantine.Suspect) bool { return !of(s) }), quarantine.Failed)
		again = slices.DeleteFunc(slices.Clone(again), of)
	}
}

// scarce are words of those that end because they get no memory or no thread: Go, a C++ library, OpenBLAS, sanitizers.
var scarce = []string{"ut of memory", "out-of-memory", "ot enough memory", "nsufficient memory", "annot allocate", "ailed to allocate", "tried to allocate", "bad_alloc", "annot map pages", "ailed to reserve", "OS thread", "newosproc", "pthread_create", "temporarily unavailable"}

// starving says whether a line has such words.
func starving(line string) bool {
	return slices.ContainsFunc(scarce, func(w string) bool { return strings.Contains(line, w) })
}

// starved says whether the child died for want of memory or threads.
func (o *outcome) starved() bool { return starving(o.died) }

// crashed says whether the child ended within the library's call by a crash in it, or because the library has ended the process, and not for want of time or memory.
func (o *outcome) crashed() bool {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(o.died, w) })
	}
	if !strings.HasSuffix(o.at, againSuffix) || o.starved() {
		return false
	}
	if name, ended := strings.CutPrefix(o.died, "was ended by "); ended {
		name, _, _ = strings.Cut(name, ":")
		return slices.Contains(crashes, name)
	}
	if !strings.HasPrefix(o.died, "ended with") { // it was too slow, or was stopped
		return false
	}
	return has(crashes...) || !has("fatal error: ", "panic: ", "SIGXCPU: ") // those are Go's own ends
}

// crashes are the signals that a library's code is sent for what it does. Go ends with code 2 then, and says which it was.
var crashes = []string{"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"}

// settle notes what came of suspects that were tried again by a process that lived. Those that it says nothing of wait for the next one.
func (g *Guard) settle(again []quarantine.Suspect, o *outcome) {
	came := map[string][]quarantine.Suspect{}
	for i, s := range again {
		fate := ""
		if i < len(o.Again) {
			fate = o.Again[i]
		}
		if slices.ContainsFunc(o.Failures, func(f selftest.Failure) bool { return f.Op == s.Op }) {
			fate = quarantine.Failed
		}
		came[fate] = append(came[fate], s)
	}
	for _, fate := range []string{quarantine.Passed, quarantine.Failed, quarantine.Usual, quarantine.Untried, quarantine.Gone} {
		g.store.Settle(came[fate], fate)
	}
}

// Forget drops what is suspect of libraries that have not come by for long: nobody will try it again.
func (g *Guard) Forget() {
	g.store.Forget(time.Now().Add(-memoryOf), func(l quarantine.Library) bool {
		known, ok := g.Known(l.Digest)
		known.File = l.File
		return ok && known == l
	})
}
