// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// leave notes calls of a kernel, and ends the process. Where this is not the process that is to end it does nothing.
func leave(t *testing.T, shapes ...dispatch.Shape) {
	t.Helper()
	folder := os.Getenv("SETUN_TEST_ROGUE")
	if folder == "" {
		return
	}
	rt := open(t, WithLibraries(folder))
	for _, m := range rt.arms[backends.OpActivations] {
		if m.name == "simd_c/avx2" {
			for i := range shapes {
				rt.note(i, m, &shapes[i])
			}
			os.Exit(3)
		}
	}
	t.Fatal("there is no such kernel")
}

// ends counts what came of suspects, by the end of what is said of them.
func ends(rt *Runtime, words string) (n int) {
	for _, text := range rt.report.Quarantine.Running {
		if strings.HasSuffix(text, words) {
			n++
		}
	}
	return n
}

const waiting, passed = "it is to be tried again before the library is loaded", "it was tried again, and nothing was wrong"

// A kernel whose retrial is killed, as for want of memory, could not be tried, and is used; one that ends the process by itself is not.
func TestF32KilledWhenTriedAgain(t *testing.T) {
	leave(t, dispatch.Activations(6000, 2), dispatch.Activations(100, 1))
	for name, blamed := range map[string]bool{"LARGE_KILL": false, "LARGE_EXIT": true} {
		t.Run(name, func(t *testing.T) {
			r := newRogue(t, name)
			r.open(t)
			r.other(t, "TestF32KilledWhenTriedAgain")
			rt, b := r.open(t)
			if b.State != "loaded" || len(r.entries()) > 0 != blamed || len(b.Kernels) > 0 == blamed {
				t.Errorf("%+v, %+v", b, r.entries())
			}
			if killed := ends(rt, "it could not be tried again, for want of time or memory"); killed > 0 == blamed || blamed && ends(rt, "tried again, and failed") != 2 {
				t.Errorf("%q", rt.report.Quarantine.Running)
			}
			answers(t, rt)
			if rt, b = r.open(t); b.State != "loaded" || ends(rt, waiting) != 0 || !blamed && (ends(rt, passed) != 1 || len(b.Kernels) != 1) {
				t.Errorf("the next time: %+v, %q", b, rt.report.Quarantine.Running)
			}
			if _, b = r.open(t); b.Probe.Source != "process" {
				t.Errorf("a third time: %+v", b.Probe)
			}
		})
	}
}

// Of many calls some are tried by each Open; those on shapes that are too large are not said to have passed.
func TestF32ManyInFlight(t *testing.T) {
	shapes := []dispatch.Shape{dispatch.Activations(1<<30, 4)}
	for i := range 11 {
		shapes = append(shapes, dispatch.Activations(1<<18-i, 1))
	}
	leave(t, shapes...)
	r := newRogue(t, "GOOD")
	r.open(t)
	r.other(t, "TestF32ManyInFlight")
	for i, want := range [][3]int{{8, 0, 4}, {11, 1, 0}} {
		rt, b := r.open(t)
		large := ends(rt, "that shape is too large to be tried again, or does not say all; its usual trials passed")
		if got := [3]int{ends(rt, passed), large, ends(rt, waiting)}; got != want || b.State != "loaded" || len(r.entries()) != 0 {
			t.Errorf("Open %d: passed, too large, waiting: %v, wanted %v; %+v", i, got, want, b)
		}
	}
	if _, b := r.open(t); b.Probe.Source != "process" {
		t.Errorf("when all is done: %+v", b.Probe)
	}
}

// A program that can make no probe goes on with what was said of the library before, and one that wants none is told once.
func TestF32NoProbeCanBeMade(t *testing.T) {
	leave(t, dispatch.Activations(6000, 2))
	r := newRogue(t, "GOOD")
	r.open(t)
	r.other(t, "TestF32NoProbeCanBeMade")
	var log bytes.Buffer
	logged := WithLogger(slog.New(slog.NewTextHandler(&log, nil)))
	for i, options := range [][]Option{{WithProbeHelper("/nowhere"), logged}, {WithProbeHelper("/nowhere"), logged}, {WithoutProbe(), logged}} {
		log.Reset()
		rt, b := r.open(t, options...)
		if b.State != "loaded" || len(b.Kernels) != 1 || ends(rt, waiting) != 1 || strings.Contains(log.String(), waiting) != (i == 0) {
			t.Errorf("Open %d: %+v, %q, %s", i, b, rt.report.Quarantine.Running, log.String())
		}
		answers(t, rt)
	}
	if rt, _ := r.open(t); ends(rt, passed) != 1 {
		t.Errorf("%q", rt.report.Quarantine.Running)
	}
}
