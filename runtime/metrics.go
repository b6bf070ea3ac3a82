// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/setun-compute/setun/backends"
)

// traffic counts calls, those in flight in its lower bits and all that ever began above them: so one addition counts both, and whoever looks later knows whether any other began in between.
type traffic struct{ both atomic.Uint64 }

const began = 1 << 24 // more calls are not in flight

func (t *traffic) enter() uint64            { return t.both.Add(began + 1) }
func (t *traffic) leave()                   { t.both.Add(^uint64(0)) }
func (t *traffic) inFlight() int64          { return int64(t.both.Load() % began) }
func (t *traffic) calm(entered uint64) bool { return alone(entered) && t.both.Load() == entered } // the call that entered so has had no other beside it

// alone says whether no other call was in flight when one entered.
func alone(entered uint64) bool { return entered%began == 1 }

// stats are an arm's counters.
type stats struct {
	surprises                      atomic.Int64 // in a row, of timed calls; negative: shorter than predicted
	calm                           atomic.Bool  // calls that were as predicted, and are not learned from, came since one was
	calls, bytes, nanos, fallbacks atomic.Int64
	rechecks                       atomic.Int64
}

// Metric is what one kernel did for one op since Open.
type Metric struct {
	Op        string        `json:"op"`
	Kernel    string        `json:"kernel"`    // "simd_c/avx512"
	Calls     int64         `json:"calls"`     // calls sent to it
	Time      time.Duration `json:"time_ns"`   // spent in it; of short calls one in 64 is timed and counts 64 times
	Bytes     int64         `json:"bytes"`     // inputs and outputs of its successful calls
	Fallbacks int64         `json:"fallbacks"` // calls that it failed and another kernel answered or refused
	Rechecked int64         `json:"rechecked"` // calls a part of which pure Go computed again
	Health    string        `json:"health"`    // "healthy", "suspect" or "quarantined"
}

// Snapshot is everything that is counted.
type Snapshot struct {
	Kernels  []Metric `json:"kernels"`
	Learning Learning `json:"learning"`
	InFlight int64    `json:"in_flight"` // calls
}

// Metrics returns the counters of every kernel that was called, in the order of ops and kernels.
func (rt *Runtime) Metrics() []Metric {
	var list []Metric
	for _, op := range backends.Ops() {
		for _, a := range rt.arms[op] {
			if a.stats.calls.Load() == 0 {
				continue
			}
			list = append(list, Metric{Op: op.String(), Kernel: a.name, Calls: a.stats.calls.Load(), Time: time.Duration(a.stats.nanos.Load()), Bytes: a.stats.bytes.Load(), Fallbacks: a.stats.fallbacks.Load(), Rechecked: a.stats.rechecks.Load(), Health: a.health().String()})
		}
	}
	return list
}

// Snapshot returns all counters.
func (rt *Runtime) Snapshot() Snapshot {
	return Snapshot{rt.Metrics(), rt.Learning(), rt.traffic.inFlight()}
}

// Var is a runtime's Snapshot as JSON, for expvar: expvar.Publish("setun", rt.Var()).
type Var struct{ rt *Runtime }

// Var returns the runtime as a variable of package expvar, which this package does not import: it would open a page of the default HTTP server.
func (rt *Runtime) Var() Var { return Var{rt} }

// String returns the snapshot as JSON.
func (v Var) String() string {
	b, err := json.Marshal(v.rt.Snapshot())
	if err != nil { // there is nothing in it that has no JSON
		return "null"
	}
	return string(b)
}
