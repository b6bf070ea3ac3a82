// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	gort "runtime"
	"slices"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// Callers that call at once each write to what is theirs. The race detector sees more of it.
func TestCallersHaveTheirOwnDestinations(t *testing.T) {
	rt, err := runtime.Open(runtime.WithoutNative(), runtime.WithProfile(""))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	const n, callers = 300, 8
	opts := quant.Options{}.WithDefaults(n)
	jobs := []job{{shape: dispatch.Vector(backends.OpConstrain, n)}, {shape: dispatch.Quantize(n, opts), opts: opts}, {shape: dispatch.Step(n, opts), opts: opts}}
	d := newData(n)
	p := newPlayer(d, jobs, callers, func(int) *runtime.Runtime { return rt })
	if len(p.do) != callers {
		t.Fatalf("%d sets of calls", len(p.do))
	}
	for _, do := range p.do[1:] {
		for _, f := range do {
			if _, err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if slices.ContainsFunc(d.dst, func(x float32) bool { return x != 0 }) {
		t.Error("another caller wrote to the first one's destination")
	}
	part := make([]int, 200)
	for i := range part {
		part[i] = i % len(jobs)
	}
	if err := p.play(context.Background(), part, callers, nil); err != nil {
		t.Error(err)
	}
}

// A workload of several callers has no geometric mean, and does not count in that of all.
func TestMeanLeavesOutSeveralCallers(t *testing.T) {
	g := &game{workload: workload{callers: 8}}
	l := loss{Calls: 100, LiveNs: 2, LiveBestNs: 1, Arms: map[string]float64{}}
	if g.score(&l); l.Geometric != 0 || l.perCall() != "" || l.Ratio != 2 {
		t.Errorf("%+v", l)
	}
	r := regret{Workloads: []loss{l, {Calls: 50, Geometric: 1.2, OracleNs: 1, DispatcherNs: 1}}}
	if r.sum(); math.Abs(r.Geometric-1.2) > 1e-9 || r.perCall() != "1.200" {
		t.Errorf("%v", r.Geometric)
	}
}

// Go itself may change how many cores it uses while cores are being listened to.
func TestPulseWithOtherCores(t *testing.T) {
	defer gort.GOMAXPROCS(gort.GOMAXPROCS(1))
	p := new(pulse)
	p.quiet()
	for _, n := range []int{2, 1, 2} {
		gort.GOMAXPROCS(n)
		done := make(chan bool)
		go func() { p.quiet(); p.jointly(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it waits for a core that nobody listens to")
		}
	}
}

// A new profile waits for programs that merge what they have learned into the old one.
func TestProfileIsWrittenUnderTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	unlock, err := durable.Lock(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := save(path, []byte("new"), 10*time.Millisecond); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("%v", err)
	}
	unlock()
	if err := save(path, []byte("new"), time.Minute); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
}
