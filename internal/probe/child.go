// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpp"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/selftest"
)

// strange is the exit code of a process that has the variable and is no probe's child.
const strange = 120

// A program that is started as a probe's child ends here, before its own main function. Whatever has the variable set goes no further: a library that starts the program once more must not get a
// process that probes, and so on. Otherwise this is one look at the environment.
func init() {
	text := os.Getenv(ChildVariable)
	if text == "" {
		return
	}
	if admit.Raised() { // whoever starts such a process chooses its environment, and must not choose what it loads
		os.Exit(strange)
	}
	s, err := parse(text, os.Getppid())
	if err != nil {
		fmt.Fprintf(os.Stderr, "setun: %s is set, and is %v; unset it\n", ChildVariable, err)
		os.Exit(strange)
	}
	child(&s)
	os.Exit(0)
}

// child does a probe and writes its result.
func child(s *spec) {
	debug.SetGCPercent(-1) // it lives for milliseconds; whoever takes more than that gives it back
	out := inherit(s)
	write := func(line string) { _, _ = io.WriteString(out, line+"\n") }
	write(hello(s.Nonce))
	begin := time.Now()
	r := result{Nonce: s.Nonce, Kind: fit}
	if err := restrain(s); err != nil {
		r.fail(transient, plugin.Refused, fmt.Errorf("the probe's limits: %w", err))
	} else if step := func(at string) { write(stepPrefix + at) }; s.System != "" {
		r.system(s, step, func(file string) { write(foundPrefix + file) })
	} else {
		r.try(s, step)
	}
	r.Nanos = int64(time.Since(begin))
	line, err := json.Marshal(r)
	if err != nil {
		return
	}
	write(string(line))
}

// fail notes why a library is not to be loaded.
func (r *result) fail(kind string, state plugin.State, err error) {
	r.Kind, r.State, r.Error = kind, state, err.Error()
	switch {
	case isUnfit(err):
		r.Sentinel = "float environment"
	case errors.Is(err, backends.ErrABIMismatch):
		r.Sentinel = "ABI"
	}
}

// isUnfit says whether an error of loading is the library's own, and not one of where it is loaded.
func isUnfit(err error) bool { return errors.Is(err, plugin.ErrFloatEnvironment) }

// sentinel is the error that fail has found.
func (r *result) sentinel() error {
	switch r.Sentinel {
	case "float environment":
		return plugin.ErrFloatEnvironment
	case "ABI":
		return backends.ErrABIMismatch
	}
	return backends.ErrLibrary
}

// try loads the library and tests its kernels.
func (r *result) try(s *spec, step func(at string)) {
	path, err := s.load()
	if err != nil {
		r.fail(transient, plugin.Refused, err)
		return
	}
	before := strangers()
	step("loading it")
	l, state, loader, err := plugin.OpenChecked(path)
	switch {
	case loader: // something else that it needs may be missing
		r.fail(transient, state, err)
		return
	case err != nil:
		r.fail(unfit, state, err)
		return
	}
	r.Version, r.Build = l.Version()
	if !l.HasDevices() {
		trials := selftest.Prepare(backends.Ops()...)
		step("opening it")
		b, err := l.Open()
		r.context(s, trials, b, err, step)
	} else {
		step("looking for devices")
		n, _ := l.Devices()
		list := chosen(s.Devices, n)
		if len(list) == 0 {
			return
		}
		trials := selftest.Prepare(backends.Ops()...)
		for _, ordinal := range list {
			step(fmt.Sprintf("opening device %d", ordinal))
			b, err := l.OpenDevice(fmt.Sprintf("%s:%d", s.Name, ordinal), ordinal, 1)
			if r.context(s, trials, b, err, step); r.Kind != fit {
				return
			}
			r.Devices++
		}
	}
	if r.Kind == fit && strangers() > before {
		step("waiting for the threads that it has left behind")
		time.Sleep(linger)
	}
}

// linger is for how long a probe waits for threads of the library's that have not ended: what they do wrong should happen here.
const linger = 50 * time.Millisecond

// context tests the kernels of a context.
func (r *result) context(s *spec, trials *selftest.Trials, b *plugin.Backend, err error, step func(at string)) {
	if err != nil {
		kind := transient // no memory, or a device that others have
		if errors.Is(err, plugin.ErrFloatEnvironment) {
			kind = unfit
		}
		r.fail(kind, plugin.Failed, err)
		return
	}
	kernels := s.used(b.Kernels())
	if r.again(s, b, step); r.Kind != fit {
		return
	}
	failures, err := trials.Run(b, kernels, func(k backends.Kernel) { step(k.Op.String() + "/" + k.Name) })
	if err != nil {
		r.fail(transient, plugin.Failed, err)
		return
	}
	r.Kernels += len(kernels)
	r.wrong(failures)
	step("closing it")
	b.Close()
}

// used leaves the kernels that a runtime uses, and those that are suspect: to test the others would take most of the time.
func (s *spec) used(all []backends.Kernel) (list []backends.Kernel) {
	uses := func(k backends.Kernel) bool { return k.Threads <= max(2, s.Cores) || k.Memory != 0 }
	switch {
	case s.Others:
	case s.Name == simdc.Name:
		uses = simdc.Uses(s.Level)
	case s.Name == cpp.Name:
		uses = cpp.Uses(all, s.Level, cpp.Useful(s.Cores))
	}
	for _, k := range all {
		if uses(k) || slices.ContainsFunc(s.Again, func(c call) bool { return c.of(k) }) {
			list = append(list, k)
		}
	}
	return list
}

// wrong notes the first failure of each op, which is all that is asked: a library may have very many kernels, and the result is short.
func (r *result) wrong(failures []selftest.Failure) {
	for _, f := range failures {
		if !slices.ContainsFunc(r.Failures, func(o selftest.Failure) bool { return o.Op == f.Op }) {
			r.Failures = append(r.Failures, f)
		}
	}
}

// chosen lists the devices to be tested of n that there are; −1 stands for all.
func chosen(ordinals []int, n int) (list []int) {
	for i := range n {
		for _, o := range ordinals {
			if o == i || o == -1 {
				list = append(list, i)
				break
			}
		}
	}
	return list
}

// load returns what to give to the loader: the descriptor that the parent has checked, or the path, after looking whether that still leads to the same content.
func (s *spec) load() (string, error) {
	if s.Library > 0 {
		return fmt.Sprintf("/proc/self/fd/%d", s.Library), nil
	}
	f, err := admit.Open(s.Path)
	if err != nil {
		return "", err
	}
	if f.Digest.String() != s.Digest {
		return "", fmt.Errorf("%w: the file was replaced", admit.ErrUnsafe)
	}
	return f.LoadPath(), nil // the file stays open: it may be the path
}
