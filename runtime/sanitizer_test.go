// SPDX-License-Identifier: Apache-2.0

//go:build linux

package runtime

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/probe"
)

// TestSanitizerFinds shows that a run under a sanitizer can fail: a library with a bug that changes nothing else, built with that sanitizer, ends the probe that tries it, and ends a program that uses it
// without one. native/sanitize.sh says which sanitizer it is.
func TestSanitizerFinds(t *testing.T) {
	kind := os.Getenv("SETUN_TEST_SANITIZER")
	if kind == "" {
		t.Skip("for runs under a sanitizer: make test-asan, test-ubsan, test-tsan")
	}
	if folder := os.Getenv("SETUN_TEST_ROGUE"); folder != "" { // the program that uses it
		rt := open(t, WithLibraries(folder), WithoutProbe(), WithForce("simd_c"))
		_, err := rt.QuantizeActivations(nil, ramp(3*1000), 1000)
		t.Fatalf("the call came back: %v", err)
	}
	bug, found := map[string]struct{ name, report string }{
		"address":   {"BUG_HEAP", "AddressSanitizer: heap-buffer-overflow"},
		"undefined": {"BUG_OVERFLOW", "runtime error: signed integer overflow"},
		"thread":    {"BUG_RACE", "ThreadSanitizer: data race"},
	}[kind]
	if !found {
		t.Fatalf("there is no bug for the sanitizer %q", kind)
	}
	r := newRogue(t, bug.name, "-fsanitize="+kind, "-fno-sanitize-recover=all", "-g")
	if _, b := r.open(t); b.State != "failed" || !strings.Contains(b.Reason, bug.report) || !strings.Contains(b.Reason, "testing activations/avx2") {
		t.Errorf("the probe: %s, %s", b.State, b.Reason)
	} else {
		t.Log(b.Reason)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestSanitizerFinds$")
	c.Env = append(os.Environ(), "SETUN_TEST_ROGUE="+r.folder, "SETUN_STATE=none", probe.Variable+"=off")
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), bug.report) || strings.Contains(string(out), "came back") {
		t.Errorf("%v; no %q in\n%s", err, bug.report, out)
	}
	good := newRogue(t, "GOOD", "-fsanitize="+kind, "-fno-sanitize-recover=all") // and without the bug nothing is reported
	rt, b := good.open(t)
	if b.State != "loaded" {
		t.Errorf("without a bug: %+v", b)
	}
	answers(t, rt)
}
