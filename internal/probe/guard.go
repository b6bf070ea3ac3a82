// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/internal/selftest"
)

// Environment variables.
const (
	Variable       = "SETUN_PROBE"        // "off": libraries are loaded without a probe; "on" is the default
	HelperVariable = "SETUN_PROBE_HELPER" // the program to be started for probes, instead of this one
)

// Sentinels for errors.Is, which wrap backends.ErrLibrary.
var (
	ErrProbe       = fmt.Errorf("%w: it failed its probe", backends.ErrLibrary)
	ErrNoProbe     = fmt.Errorf("%w: no probe could be made", backends.ErrLibrary)
	ErrQuarantined = fmt.Errorf("%w: it is quarantined", backends.ErrLibrary)
)

// Settings say how libraries are tried.
type Settings struct {
	Off     bool   // they are not
	Helper  string // absolute path of the program to be started; "" is this one
	Devices []int  // of CUDA, that are going to be used; −1 is all
	Cores   int    // that are going to be used
	Level   string // of instruction sets, that alone is going to be used; "": as each library does
	Folder  string // of the state; "" for none

	Limit time.Duration // for a probe; 0: as is right for the library
}

// FromEnvironment returns the settings that the environment asks for, and why nothing is remembered between processes if that is so.
func FromEnvironment() (s Settings, note string, err error) {
	switch text := admit.Getenv(Variable); text {
	case "", "on":
	case "off":
		s.Off = true
	default:
		return s, "", fmt.Errorf("%s=%q is neither on nor off: %w", Variable, text, backends.ErrArgument)
	}
	s.Helper = admit.Getenv(HelperVariable)
	s.Folder, note = quarantine.Folder()
	return s, note, nil
}

// Limits for the whole probe: a driver may have to compile its kernels.
const (
	limit     = 10 * time.Second
	limitCUDA = 30 * time.Second
)

// cudaName is the library that works on CUDA devices.
const cudaName = "cuda"

// Guard lets libraries be loaded that have passed a probe. It is a plugin.Gate.
type Guard struct {
	Settings
	store   *quarantine.Store
	machine string
	mutex   sync.Mutex
	known   map[string]quarantine.Library // by digest, what has come by

	// Found is what was running when processes ended that nobody has found before, but for what is quarantined for that already.
	Found []quarantine.Suspect
}

var _ plugin.Gate = (*Guard)(nil)

// New returns a guard for the libraries of one runtime. It looks what other processes were using when they died.
func New(m machine.Machine, s Settings) *Guard {
	s.Cores = max(1, s.Cores)
	m.Cores = 0 // they change from process to process
	g := &Guard{Settings: s, store: quarantine.At(s.Folder), machine: m.Fingerprint(nil), known: map[string]quarantine.Library{}}
	_, g.Found = g.store.Sweep()
	return g
}

// Store returns where the guard keeps what it knows.
func (g *Guard) Store() *quarantine.Store { return g.store }

// Use marks the first use of a kernel of a library that came by, nil for none.
func (g *Guard) Use(digest string, k backends.Kernel) *quarantine.Use {
	l, found := g.Known(digest)
	if !found {
		return nil
	}
	return g.store.Use(l, k.Op.String(), k.Name)
}

// Known returns under which identity a library that came by is remembered.
func (g *Guard) Known(digest string) (l quarantine.Library, ok bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	l, ok = g.known[digest]
	return l, ok
}

// identify returns the name under which a library is remembered.
func (g *Guard) identify(c plugin.Candidate) quarantine.Library {
	l := quarantine.Library{Digest: c.Digest, File: quarantine.Clean(filepath.Base(c.Path), 255), Machine: g.machine, Contract: Contract()}
	if c.Name == cudaName {
		l.Driver = driver()
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.known[l.Digest] = l
	return l
}

// scope is what a probe depended on beside the library's identity.
func (g *Guard) scope(c plugin.Candidate) string {
	text := fmt.Sprintf("%d cores", g.Cores)
	switch {
	case c.Others:
		text += ", all kernels"
	case g.Level != "":
		text += ", level " + quarantine.Clean(g.Level, 64)
	}
	if c.Name == cudaName {
		text += fmt.Sprintf(", devices %v of %s", g.Devices, devices())
	}
	return text
}

// Admit decides about a library: what is quarantined is not loaded, what was tried before is, and the rest is tried now.
func (g *Guard) Admit(c plugin.Candidate) (plugin.Pass, plugin.State, error) {
	l := g.identify(c)
	p := plugin.Pass{Source: "off"}
	if g.Off {
		if err := withhold(&p, g.store.Find(l)); err != nil {
			return p, plugin.Quarantined, err
		}
		return p, "", nil
	}
	defer alone(g.Folder + l.Digest + g.scope(c))()
	v, here, found := g.store.Verdict(l, g.scope(c))
	// Afterwards: whoever said that it is fit has quarantined before what is not.
	if err := withhold(&p, append(v.Entries(), g.store.Find(l)...)); err != nil {
		return p, plugin.Quarantined, err
	}
	known := p
	if known.Kernels, known.Took, known.Source = v.Kernels, v.Took, "disk"; here {
		known.Source = "process"
	}
	again := g.again(l, &p)
	if found && len(again) == 0 {
		return known, "", nil
	}
	p, state, err := g.try(c, l, again)
	if found && errors.Is(err, ErrNoProbe) { // what is suspect waits for a program that can make one
		return known, "", nil
	}
	return p, state, err
}

// fate is what an outcome means for a library: nothing, or an error, for which it may be quarantined.
func (g *Guard) fate(o outcome, l quarantine.Library) (plugin.State, error) {
	switch {
	case o.absent:
		return plugin.Refused, fmt.Errorf("%w: %s; name a program that uses Setun, such as calibrate, by %s, or accept the risk with %s=off", ErrNoProbe, o.died, HelperVariable, Variable)
	case o.starved(): // no verdict
		return plugin.Failed, fmt.Errorf("%w: %s, for want of memory or threads; it is tried again the next time", backends.ErrLibrary, o.complaint())
	case o.died != "":
		e := g.store.Add(l, quarantine.Load, o.complaint())
		return plugin.Failed, fmt.Errorf("%w: %s; it is quarantined, to lift that: calibrate quarantine lift %.12s", ErrProbe, e.Reason, l.Digest)
	case o.Kind == transient:
		return o.State, &reported{quarantine.Clean(o.Error, 1000), []error{o.sentinel()}}
	case o.Kind == unfit:
		e := g.store.Add(l, quarantine.Load, o.Error)
		return o.State, &reported{fmt.Sprintf("%s; it is quarantined, to lift that: calibrate quarantine lift %.12s", e.Reason, l.Digest), []error{o.sentinel(), ErrProbe}}
	}
	return "", nil
}

// try makes a probe and keeps what it said.
func (g *Guard) try(c plugin.Candidate, l quarantine.Library, again []quarantine.Suspect) (p plugin.Pass, state plugin.State, err error) {
	o, again := g.retry(again, func(again []quarantine.Suspect) outcome { return g.probe(c, again) })
	if state, err := g.fate(o, l); err != nil {
		return p, state, err
	}
	g.wrong(l, o.Failures)
	// That there is no device may be over with the next process, which must not use one that was never tried.
	lasting := c.Name != cudaName || o.Devices > 0
	g.store.Pass(lasting, quarantine.Verdict{Library: l, Scope: g.scope(c), Version: o.Version, Build: o.Build, Kernels: o.Kernels, Took: time.Duration(o.Nanos)})
	g.settle(again, &o) // last: what is settled is not tried again
	p = plugin.Pass{Kernels: o.Kernels, Took: time.Duration(o.Nanos), Source: "probe"}
	if err := withhold(&p, g.store.Find(l)); err != nil {
		return p, plugin.Quarantined, err
	}
	return p, "", nil
}

// wrong quarantines the ops of which a kernel gave wrong results.
func (g *Guard) wrong(l quarantine.Library, failures []selftest.Failure) {
	told := map[string]bool{}
	for _, f := range failures {
		if !told[f.Op] {
			told[f.Op] = true
			g.store.Add(l, f.Op, "wrong in its self-test: "+f.String())
		}
	}
}

// withhold notes which ops are quarantined. The error is for a library that is so as a whole.
func withhold(p *plugin.Pass, entries []quarantine.Entry) error {
	for _, e := range entries {
		if e.Op == quarantine.Load {
			return fmt.Errorf("%w: %v", ErrQuarantined, e)
		}
		for _, op := range backends.Ops() {
			if op.String() == e.Op {
				if p.Withheld == nil {
					p.Withheld = map[backends.Op]string{}
				}
				p.Withheld[op] = e.String()
			}
		}
	}
	return nil
}

// doing is a step in a sentence.
func doing(step string) string {
	if strings.Contains(step, "/") {
		return "testing " + step
	}
	return step
}

// reported is an error that another process had.
type reported struct {
	text string
	is   []error
}

func (r *reported) Error() string   { return r.text }
func (r *reported) Unwrap() []error { return r.is }

// probe tries a library in a process of its own.
func (g *Guard) probe(c plugin.Candidate, again []quarantine.Suspect) outcome {
	s := spec{Again: calls(again), Name: c.Name, Path: c.Path, Digest: c.Digest, Cores: g.Cores, Level: g.Level, Others: c.Others}
	most := limit
	if c.Name == cudaName {
		s.Devices, most = g.Devices, limitCUDA
	}
	if !c.ByPath && runtime.GOOS == "linux" {
		s.Library = 1 // by its descriptor, whatever number it gets
	}
	return g.run(s, most, c.File)
}

// run starts a child and waits for it, so long at most.
func (g *Guard) run(s spec, most time.Duration, library *os.File) outcome {
	if g.Limit > 0 {
		most = g.Limit
	}
	s.Seconds = 2 * int(max(most, time.Second)/time.Second)
	program := ""
	if g.Helper != "" {
		helper, name, err := openHelper(g.Helper)
		if err != nil {
			return outcome{absent: true, died: err.Error()}
		}
		defer helper.Close()
		program = name
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), most, errSlow)
	defer cancel()
	return run(ctx, program, s, library)
}

// busy has a lock for each library that is being tried in this process: many runtimes may be opened at once.
var busy sync.Map

// alone waits until nobody else in this process tries the same. What it returns lets the next one go on.
func alone(key string) (leave func()) {
	m, _ := busy.LoadOrStore(key, new(sync.Mutex))
	m.(*sync.Mutex).Lock()
	return m.(*sync.Mutex).Unlock
}

// driver tells one CUDA driver from another, without loading it.
func driver() string {
	if path := admit.Getenv("SETUN_CUDA_DRIVER"); path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return "none"
		}
		return quarantine.Clean(fmt.Sprintf("%s %d %d", filepath.Base(path), info.Size(), info.ModTime().UnixNano()), 255)
	}
	text, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return quarantine.Clean(first, 255)
}

// devices tells which CUDA devices a process is given. When that changes, what was tried may not be what is used.
func devices() string {
	list, _ := filepath.Glob("/dev/nvidia[0-9]*")
	slices.Sort(list)
	return quarantine.Clean(fmt.Sprintf("%v %s", list, os.Getenv("CUDA_VISIBLE_DEVICES")), 500)
}
