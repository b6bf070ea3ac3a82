// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/machine"
)

// Report tells what Open found, loaded and refused, and why.
type Report struct {
	Machine  machine.Machine `json:"machine"`
	ISA      []machine.ISA   `json:"isa"` // instruction set levels, best first
	Backends []BackendReport `json:"backends"`
	Profile  ProfileReport   `json:"profile"`
}

// BackendReport tells of one backend at one place.
type BackendReport struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Origin  string   `json:"origin"` // "built in", or why this place was looked at
	State   string   `json:"state"`  // "loaded", "missing", "refused" or "failed"
	Reason  string   `json:"reason"`
	Version string   `json:"version,omitempty"`
	Build   string   `json:"build,omitempty"`
	Kernels []string `json:"kernels"`
}

// ProfileReport tells what became of the machine's profile.
type ProfileReport struct {
	Path        string `json:"path"`
	State       string `json:"state"` // "loaded", "missing", "refused" or "not used"
	Reason      string `json:"reason,omitempty"`
	Fingerprint string `json:"fingerprint"` // a profile must carry it
}

// builds are the texts by which a profile knows the libraries that it was measured with.
func (r *Report) builds() []string {
	var list []string
	for _, b := range r.Backends {
		if b.State == "loaded" && b.Build != "" {
			list = append(list, b.Name+" "+b.Version+" "+b.Build)
		}
	}
	return list
}

// Report returns what Open found. The caller must not change it.
func (rt *Runtime) Report() Report { return rt.report }

// stats are an arm's counters.
type stats struct {
	surprises                                atomic.Int64 // in a row, of timed calls; negative: shorter than predicted
	calm                                     atomic.Bool  // calls that were as predicted, and are not learned from, came since one was
	calls, bytes, nanos, fallbacks, failures atomic.Int64
}

// Metric is what one kernel did for one op since Open.
type Metric struct {
	Op        string        `json:"op"`
	Kernel    string        `json:"kernel"`    // "simd_c/avx512"
	Calls     int64         `json:"calls"`     // calls sent to it
	Time      time.Duration `json:"time_ns"`   // spent in it; of short calls one in 64 is timed and counts 64 times
	Bytes     int64         `json:"bytes"`     // inputs and outputs of its successful calls
	Fallbacks int64         `json:"fallbacks"` // calls that it failed and another kernel answered or refused
}

// Metrics returns the counters of every kernel that was called, in the order of ops and kernels.
func (rt *Runtime) Metrics() []Metric {
	var list []Metric
	for _, op := range backends.Ops() {
		for _, a := range rt.arms[op] {
			if a.stats.calls.Load() == 0 {
				continue
			}
			list = append(list, Metric{Op: op.String(), Kernel: a.name, Calls: a.stats.calls.Load(), Time: time.Duration(a.stats.nanos.Load()), Bytes: a.stats.bytes.Load(), Fallbacks: a.stats.fallbacks.Load()})
		}
	}
	return list
}
