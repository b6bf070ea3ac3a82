// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/quarantine"
)

// other runs a test of this program in a process that finds the library, and returns what it said before it ended.
func (r *rogue) other(t *testing.T, test string) string {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	c.Env = append(os.Environ(), "SETUN_TEST_ROGUE="+r.folder)
	out, err := c.CombinedOutput()
	if err == nil {
		t.Fatalf("it should have ended otherwise:\n%s", out)
	}
	return string(out)
}

// leftovers are files of calls in this library's kernels. Other tests of this machine have theirs beside them.
func (r *rogue) leftovers(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/dev/shm/setun-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte(r.digest)) { // a file of another process may go meanwhile
			list = append(list, f)
		}
	}
	return list
}

// A kernel that has been used before, by this process and others, crashes on one shape. The next process tries it on that shape in a process that may crash, and does without the op.
func TestF32CrashInALaterCall(t *testing.T) {
	const rows, cols = 3, 4000
	if folder := os.Getenv("SETUN_TEST_ROGUE"); folder != "" {
		rt := open(t, WithLibraries(folder), WithForce("simd_c"))
		for range 3 {
			if _, err := rt.QuantizeActivations(nil, ramp(10), 5); err != nil {
				t.Fatal(err)
			}
		}
		_, err := rt.QuantizeActivations(nil, ramp(rows*cols), cols)
		t.Fatalf("the call came back: %v", err)
	}
	r := newRogue(t, "LARGE_SEGV")
	r.open(t)
	if out := r.other(t, t.Name()); !strings.Contains(out, "SIGSEGV") || strings.Contains(out, "came back") {
		t.Fatalf("it should have crashed: %s", out)
	}
	var log bytes.Buffer
	rt, b := r.open(t, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	list := r.entries()
	if len(list) != 1 || list[0].Op != "activations" || !strings.Contains(list[0].Reason, "SIGSEGV") || !strings.Contains(list[0].Reason, "testing activations/avx2 on a shape that it had when a process ended") {
		t.Fatalf("quarantined: %+v", list)
	}
	if b.State != "loaded" || len(b.Kernels) != 0 || b.Probe.Source != "probe" {
		t.Errorf("%+v, %+v", b, b.Probe)
	}
	if running := rt.Report().Quarantine.Running; len(running) != 1 || !strings.Contains(running[0], "activations/avx2 of libsetun_simd_c.so on 12000") || !strings.HasSuffix(running[0], "tried again, and failed") || !strings.Contains(log.String(), running[0][:40]) {
		t.Errorf("%q, %s", running, log.String())
	}
	t.Log(list[0].Reason)
	answers(t, rt)
}

// A process that ended by itself, or was killed, while it was in a kernel leaves the same trace. The kernel is tried again, and goes on being used.
func TestF32KilledInACall(t *testing.T) {
	if folder := os.Getenv("SETUN_TEST_ROGUE"); folder != "" {
		rt := open(t, WithLibraries(folder))
		shape := dispatch.Activations(3000, 3)
		for _, m := range rt.arms[backends.OpActivations] {
			if m.name == "simd_c/avx2" {
				place, err := rt.gate.enter(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				rt.note(place, m, &shape)
				os.Exit(3)
			}
		}
		t.Fatal("there is no such kernel")
	}
	r := newRogue(t, "GOOD")
	r.open(t)
	before := len(r.leftovers(t))
	for count := 1; count < 3; count++ {
		r.other(t, t.Name())
		var log bytes.Buffer
		rt, b := r.open(t, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if b.State != "loaded" || len(b.Kernels) != 1 || b.Probe.Source != "probe" || len(r.entries()) != 0 {
			t.Errorf("%d: %+v, %+v, %+v", count, b, b.Probe, r.entries())
		}
		running := rt.Report().Quarantine.Running
		if len(running) != 1 || !strings.Contains(running[0], "activations/avx2 of libsetun_simd_c.so on 3000") || !strings.Contains(running[0], "nothing was wrong") || strings.Contains(running[0], "before it") != (count > 1) {
			t.Errorf("%d: %q", count, running)
		}
		if !strings.Contains(log.String(), "nothing was wrong") {
			t.Errorf("%d: it is not in the log: %s", count, log.String())
		}
		t.Log(running[0])
		answers(t, rt)

		log.Reset() // that was it: it is not tried a third time, nor told each time
		rt, b = r.open(t, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if b.Probe.Source != "process" || len(rt.Report().Quarantine.Running) != 1 || strings.Contains(log.String(), "nothing was wrong") {
			t.Errorf("%d, once more: %+v, %s", count, b.Probe, log.String())
		}
	}
	if after := len(r.leftovers(t)); after > before+4 { // runtimes of this test that are open
		t.Errorf("%d files of calls, %d before", after, before)
	}
}

// Calls leave nothing in their places, and Close no file.
func TestCallsAreUnnoted(t *testing.T) {
	r := newRogue(t, "GOOD")
	rt, _ := r.open(t, WithForce("simd_c"))
	answers(t, rt)
	if len(rt.calls.Places) != int(rt.gate.limit) {
		t.Fatalf("%d places for %d calls", len(rt.calls.Places), rt.gate.limit)
	}
	used := false
	for i, p := range rt.calls.Places {
		used = used || p.Sizes[0] != 0
		if p.Kernel != 0 {
			t.Errorf("place %d: %+v", i, p)
		}
	}
	if !used {
		t.Error("no call was noted")
	}
	before := r.leftovers(t)
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	if after := r.leftovers(t); len(after) >= len(before) {
		t.Errorf("before %q, after %q", before, after)
	}
}

// peeking is a device that looks what is noted during a copy.
type peeking struct {
	backends.Device
	place *quarantine.Place
	seen  []quarantine.Place
}

func (p *peeking) look() error { p.seen = append(p.seen, *p.place); return ErrLost }

func (p *peeking) Upload(backends.Address, []byte) error                { return p.look() }
func (p *peeking) Download([]byte, backends.Address) error              { return p.look() }
func (p *peeking) Copy(backends.Address, backends.Address, int64) error { return p.look() }

func TestCopiesAreNoted(t *testing.T) {
	places := make([]quarantine.Place, maxCopies)
	p := &peeking{place: &places[0]}
	c := &copier{Device: p, gate: newGate(maxCopies), places: places, number: 7}
	for i, err := range []error{c.Upload(1, make([]byte, 10)), c.Download(make([]byte, 20), 1), c.Copy(1, 2, 30)} {
		if !errors.Is(err, ErrLost) || len(p.seen) <= i || p.seen[i].Kernel != 7 || p.seen[i].Sizes[0] != int64(10*(i+1)) || places[0].Kernel != 0 {
			t.Errorf("copy %d: %v, %+v, afterwards %+v", i, err, p.seen, places[0])
		}
	}
	if place, err := c.gate.enter(t.Context()); place != 0 || err != nil {
		t.Errorf("place %d is free, not 0: %v", place, err)
	}
}
