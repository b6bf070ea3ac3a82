// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpp"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/runtime"
)

// slowed is a backend that many runtimes share, one kernel of which can be made slower.
type slowed struct {
	backends.Backend
	kernel string       // "" for none
	factor atomic.Int64 // 1: as it is
}

// Close leaves the backend to the world that it is of.
func (s *slowed) Close() error { return nil }

func (s *slowed) drag(k backends.Kernel, begin time.Time) {
	if f := s.factor.Load(); f > 1 && k.Name == s.kernel {
		for took := time.Since(begin); time.Since(begin) < time.Duration(f)*took; {
		}
	}
}

func (s *slowed) Quantize(k backends.Kernel, a *backends.Quantize) error {
	defer s.drag(k, time.Now())
	return s.Backend.Quantize(k, a)
}

func (s *slowed) Constrain(k backends.Kernel, a *backends.Constrain) error {
	defer s.drag(k, time.Now())
	return s.Backend.Constrain(k, a)
}

func (s *slowed) Reduce(k backends.Kernel, a *backends.Reduce) error {
	defer s.drag(k, time.Now())
	return s.Backend.Reduce(k, a)
}

func (s *slowed) Step(k backends.Kernel, a *backends.Step) error {
	defer s.drag(k, time.Now())
	return s.Backend.Step(k, a)
}

// world is the arms that a workload plays on, and what each takes for each shape.
type world struct {
	field   *field
	options []runtime.Option // that a dispatcher on the same arms is opened with
	profile string           // of the same arms
	slowed  *slowed          // nil: nothing becomes slower
	shared  []backends.Backend
}

// openWorld opens the arms as they are, or with one that can become slower. The profile is written to a folder under another fingerprint, since backends that are handed in are others.
func openWorld(slow bool, dir string) (*world, error) {
	path, err := runtime.ProfilePath()
	if err != nil {
		return nil, err
	}
	w := &world{profile: path}
	if slow {
		from, err := places()
		if err != nil {
			return nil, err
		}
		w.options = []runtime.Option{runtime.WithoutNative()}
		if one, _ := simdc.Open(from, ""); one != nil {
			w.share(one)
		}
		if more, _ := cpp.Open(from, "", cpp.Useful(cores())); more != nil {
			w.share(more)
		}
		if w.slowed == nil {
			return nil, nil // pure Go alone
		}
		for _, k := range w.slowed.Kernels() {
			if k.Op == backends.OpNorm2 {
				w.slowed.kernel = k.Name // the best level comes first
				break
			}
		}
		if w.profile, err = moved(path, dir, w.options); err != nil {
			return nil, err
		}
	}
	w.field, err = openField(append(w.options, runtime.WithProfile(w.profile))...)
	return w, err
}

// share lends a backend to all runtimes of the world. The last one that is shared, on all threads if it can, is what becomes slower.
func (w *world) share(b backends.Backend) {
	w.slowed = &slowed{Backend: b}
	w.slowed.factor.Store(1)
	w.options = append(w.options, runtime.WithBackend(w.slowed))
	w.shared = append(w.shared, b)
}

// moved writes the machine's profile to a folder, for a runtime with other options.
func moved(path, dir string, options []runtime.Option) (string, error) {
	rt, err := runtime.Open()
	if err != nil {
		return "", err
	}
	defer rt.Close()
	from := path
	if p := rt.Report().Profile; p.State == "loaded" {
		from = p.Path // it may be one beside the other
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return path, nil // none: the report says so
	}
	p, err := dispatch.DecodeProfile(data, rt.Report().Profile.Fingerprint)
	if err != nil {
		return path, nil
	}
	other, err := runtime.Open(append(options, runtime.WithProfile(""))...)
	if err != nil {
		return "", err
	}
	p.Fingerprint = other.Report().Profile.Fingerprint
	if data, err = p.Encode(); err != nil {
		return "", err
	}
	to := filepath.Join(dir, "profile.json")
	return to, durable.WriteFile(to, data, 0o600)
}

func (w *world) close() {
	w.field.close()
	for _, b := range w.shared {
		b.Close()
	}
}

// set makes the arm slow or well.
func (w *world) set(slow bool) {
	if w.slowed != nil {
		w.slowed.factor.Store(1)
		if slow {
			w.slowed.factor.Store(5)
		}
	}
}
