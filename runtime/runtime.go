// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/backends/cuda"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/internal/trace"
)

// Environment variables, beside SETUN_PROBE, SETUN_PROBE_HELPER, SETUN_STATE, SETUN_BACKEND_PATH, SETUN_FORCE_ISA, SETUN_BLAS, SETUN_CUBLAS and SETUN_CUDA_DEVICES. Options have precedence.
const (
	ForceVariable   = "SETUN_FORCE"   // as WithForce
	ProfileVariable = "SETUN_PROFILE" // as WithProfile; "none" for no profile
	LearnVariable   = "SETUN_LEARN"   // "off" as WithoutLearning, "unsaved" as WithoutSaving; "on" is the default
	TraceVariable   = "SETUN_TRACE"   // as WithTrace
	RecheckVariable = "SETUN_RECHECK" // a number or "off", as WithRecheck
)

// Runtime routes calls to kernels. Make one with Open and share it.
type Runtime struct {
	router   atomic.Pointer[dispatch.Router]
	probes   [16]atomic.Pointer[dispatch.Probe] // by op: an arm to be tried with the next call that it fits
	learning *learning                          // nil: the router stays as it is
	arms     [16][]*arm                         // by op, in the router's order
	threaded [16]uint64                         // by op, a bit mask of the arms that keep several threads busy, or a device
	gathers  uint64                             // a bit mask of the arms of k-means that take many fits
	capacity int64                              // bytes of the device that has most; 0: there is none
	foreign  [16]uint64                         // by op, a bit mask of the arms that are not pure Go, which alone makes Sparse codes
	backends []backends.Backend
	devices  []*device
	memories [dispatch.NumMemories]*device // by the number of its memory; nil for the host
	unplaced [16]uint64                    // by op, a bit mask of the arms of devices in whose memory there can be no buffers
	mapping  sync.Mutex                    // of who changes mapped
	mapped   atomic.Pointer[mapped]        // slices of the program that are buffers; nil: none
	report   Report
	strict   bool
	gate     *gate
	calls    *quarantine.Calls // what is in kernels now, for those who come after this process
	patience time.Duration     // with a kernel whose context has ended
	held     atomic.Int64      // calls on buffers that were left and have not returned
	recheck  int64             // of so many calls of a kernel one is held against pure Go; 0: none
	observer func(Event)
	guard    *probe.Guard  // of native libraries; nil: there are none
	trace    *trace.Writer // nil: none
	log      *slog.Logger  // nil: none

	opened  time.Time         // what time is counted from: the wall clock may be set
	failed  [16]atomic.Uint64 // bit mask of arms that are resting after a failure
	inside  atomic.Bool       // whether the latest step of Constrain lay inside the ball
	traffic traffic
	closed  atomic.Bool
	closing sync.Once
}

// arm is a kernel with what happened to it.
type arm struct {
	backend backends.Backend
	home    int // of the backend in the runtime's list
	kernel  backends.Kernel
	name    string
	stats   stats
	foreign bool          // it is not pure Go
	number  uint32        // in the list of rt.calls, from 1; 0: it is not noted
	refused atomic.Uint32 // a bit mask of variants: its latest answer was that it does not have them
	used    atomic.Bool   // it has come back from a call, of this process or an earlier one
	use     *quarantine.Use

	condition condition
}

// Open finds the backends, reads the profile and returns a runtime. With no libraries and no profile it works in pure Go.
func Open(options ...Option) (*Runtime, error) {
	c := config{native: true, recheck: defaultRecheck, learn: true, save: true, isa: os.Getenv(simdc.ForceVariable), force: os.Getenv(ForceVariable), profile: admit.Getenv(ProfileVariable), blas: admit.Getenv(blas.Variable), cublas: admit.Getenv(cuda.CUBLASVariable), trace: admit.Getenv(TraceVariable)}
	switch learn := os.Getenv(LearnVariable); learn {
	case "", "on":
	case "off":
		c.learn = false
	case "unsaved":
		c.save = false
	default:
		return nil, fmt.Errorf("open: %s=%q is not one of on, off and unsaved: %w", LearnVariable, learn, ErrArgument)
	}
	switch text := os.Getenv(RecheckVariable); text {
	case "":
	case "off":
		c.recheck = 0
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("open: %s=%q is neither a number of calls nor off: %w", RecheckVariable, text, ErrArgument)
		}
		c.recheck = n
	}
	if err := c.devices(os.Getenv(cuda.DevicesVariable)); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var err error
	if c.probe, c.state, err = probe.FromEnvironment(); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	c.plugins = plugin.Listed(admit.Getenv(plugin.FilesVariable))
	for _, o := range options {
		if err := o(&c); err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
	}
	m := machine.Detect()
	rt := &Runtime{opened: time.Now(), strict: c.strict, recheck: int64(c.recheck), patience: defaultPatience, calls: new(quarantine.Calls), gate: newGate(max(16, 4*goruntime.GOMAXPROCS(0))), observer: c.observer, log: c.log, report: Report{Machine: m, ISA: m.Levels, Ignored: admit.Ignored(plugin.PathVariable, plugin.FilesVariable, blas.Variable, cuda.CUBLASVariable, probe.Variable, probe.HelperVariable, quarantine.StateVariable, ProfileVariable, TraceVariable, "SETUN_CUDA_DRIVER", "HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}}
	rt.add(cpu.Backend{}, nil)
	var system found // a BLAS
	if c.native {
		rt.guard = c.guard(m, &rt.report)
		places := plugin.Guarded(plugin.DefaultPlaces(c.folders), rt.guard)
		if system, err = rt.addNative(&c, places, m.Cores); err != nil {
			rt.Close()
			return nil, err
		}
	}
	if c.native {
		if err := rt.addPlugins(&c); err != nil {
			rt.Close()
			return nil, err
		}
	}
	if c.fast {
		rt.add(cpu.Gonum{}, nil)
	}
	rt.addFound(system)
	for _, b := range c.backends {
		rt.add(b, nil)
	}
	arms := map[backends.Op][]dispatch.Arm{}
	for _, op := range backends.Ops() {
		for _, a := range rt.arms[op] {
			arms[op] = append(arms[op], dispatch.Arm{Backend: a.backend.Name(), Kernel: a.kernel.Name, Threads: a.kernel.Threads, Fast: a.kernel.Fast, Memory: dispatch.Memory(a.kernel.Memory)})
		}
	}
	profile, file := rt.report.readProfile(c.profile)
	router, err := dispatch.Hardware{Cores: m.Cores, L3: m.L3}.NewRouter(arms, profile, dispatch.Policy{Force: c.force, From: c.from, Fixed: c.fixed})
	if err != nil {
		rt.Close()
		return nil, fmt.Errorf("open: %w", err)
	}
	rt.router.Store(router)
	rt.noteCalls()
	rt.report.quarantine(rt.guard)
	rt.report.log(rt.log)
	if c.trace != "" {
		header := trace.Header{Fingerprint: rt.report.Profile.Fingerprint, Machine: rt.report.machine(), Arms: map[string][]dispatch.Arm{}}
		for op, list := range arms {
			header.Arms[op.String()] = list
		}
		if rt.trace, err = trace.Create(c.trace, header); err != nil {
			rt.Close()
			return nil, fmt.Errorf("open: %w", err)
		}
	}
	if c.learn && c.force == "" {
		rt.learning = newLearning(router)
		if c.save && file != "" {
			rt.learning.save = func(l *dispatch.Learner) error { return saveLearned(&rt.report, file, l.Learned(), profile) }
		}
	}
	return rt, nil
}

// refused is the error, in strict mode, for a library that is there and cannot be used.
func (c *config) refused(tried []plugin.Attempt) error {
	for _, a := range tried {
		if c.strict && a.Err != nil && a.State != plugin.Missing {
			return fmt.Errorf("open: %w: %s: %w", ErrStrict, a.Path, a.Err)
		}
	}
	return nil
}

// add registers a backend's kernels and reports how it was found.
func (rt *Runtime) add(b backends.Backend, tried []plugin.Attempt) {
	for _, t := range tried {
		rt.report.Backends = append(rt.report.Backends, BackendReport{Name: t.Name, Path: t.Path, Origin: t.Origin, State: string(t.State), Reason: t.Reason, Version: t.Version, Build: t.Build, Kernels: t.Kernels, Digest: t.Digest, Manifest: t.Manifest, ByPath: t.ByPath, Probe: probeReport(t)})
	}
	if b == nil {
		return
	}
	if tried == nil {
		var names []string
		for _, k := range b.Kernels() {
			names = append(names, k.Op.String()+"/"+k.Name)
		}
		rt.report.Backends = append(rt.report.Backends, BackendReport{Name: b.Name(), Origin: "built in", State: string(plugin.Loaded), Kernels: names})
	}
	rt.take(b, len(rt.report.Backends)-1)
}

// take makes a backend's kernels arms. row is that of the backend in the report.
func (rt *Runtime) take(b backends.Backend, row int) {
	home := len(rt.backends)
	rt.backends = append(rt.backends, b)
	if d := backends.DeviceOf(b); d != nil {
		rt.devices = append(rt.devices, newDevice(d, home, row, &rt.report))
		if i := rt.devices[len(rt.devices)-1].info.Load(); i != nil {
			rt.capacity = max(rt.capacity, i.Total)
		}
	}
	for _, k := range b.Kernels() {
		if k.Memory != 0 && !rt.holds(k.Memory, home) {
			rt.unplaced[k.Op] |= 1 << len(rt.arms[k.Op])
		}
		if k.Threads > 1 || k.Memory != 0 { // calls side by side would wait for each other
			rt.threaded[k.Op] |= 1 << len(rt.arms[k.Op])
		}
		if _, is := b.(backends.Together); k.Many && is && k.Op == backends.OpKMeans {
			rt.gathers |= 1 << len(rt.arms[k.Op])
		}
		if b.Name() != cpu.Name {
			rt.foreign[k.Op] |= 1 << len(rt.arms[k.Op])
		}
		m := &arm{backend: b, home: home, kernel: k, foreign: b.Name() != cpu.Name, name: b.Name() + "/" + k.Name, use: rt.firstUse(b, k)}
		m.used.Store(m.use == nil)
		rt.arms[k.Op] = append(rt.arms[k.Op], m)
	}
}

// Close waits for calls in flight, saves what was learned (see WithoutSaving), then ends the backends. Libraries stay loaded. It may be called more than once; calls afterwards return ErrClosed.
func (rt *Runtime) Close() error {
	var err error
	rt.closing.Do(func() {
		rt.closed.Store(true)
		for rt.traffic.inFlight() > 0 {
			time.Sleep(50 * time.Microsecond)
		}
		if rt.learning != nil {
			err = rt.learning.finish()
		}
		if rt.trace != nil {
			err = errors.Join(err, rt.trace.Close())
		}
		for i, b := range rt.backends {
			if n := rt.blocked(i); n > 0 {
				err = errors.Join(err, &backends.Error{Op: "close", Backend: b.Name(), Detail: fmt.Sprintf("%d calls are in it", n), Err: ErrBlocked})
				continue // what they work with must stay
			}
			if e := b.Close(); e != nil && err == nil {
				err = e
			}
		}
		rt.calls.Close()
	})
	return err
}

// Explain says which kernel a call of this shape would go to, and why.
func (rt *Runtime) Explain(s dispatch.Shape) dispatch.Explanation {
	return rt.router.Load().Explain(s, rt.failed[s.Op&15].Load())
}

// Decide chooses the kernel for a call of this shape as a call would, without making it: an index into Arms(op), −1 for none, and the predicted time. No
// allocation, some tens of nanoseconds.
func (rt *Runtime) Decide(s *dispatch.Shape) dispatch.Decision {
	return rt.router.Load().Decide(s, rt.failed[s.Op&15].Load())
}

// Router returns what decides now: predictions, thresholds and explanations of the latest state of learning. It never changes.
func (rt *Runtime) Router() *dispatch.Router { return rt.router.Load() }

// Thresholds lists from which size each kernel of an op wins.
func (rt *Runtime) Thresholds(op backends.Op) []dispatch.Threshold {
	return rt.router.Load().Thresholds(op)
}

// Arms lists the kernels that compete for an op.
func (rt *Runtime) Arms(op backends.Op) []dispatch.Arm { return rt.router.Load().Arms(op) }
