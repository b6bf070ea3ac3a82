// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/internal/selftest"
)

// A crash within the library's call, or an end by the library there, is held against it; what want of time or memory may bring about is not.
func TestCrashed(t *testing.T) {
	const within = "dot/avx2" + againSuffix
	for _, c := range []struct {
		died, at string
		want     bool
	}{
		{"ended with code 2: SIGSEGV: segmentation violation", within, true},
		{"ended with code 2: SIGBUS: bus error", within, true},
		{"ended with code 2: SIGILL: illegal instruction", within, true},
		{"ended with code 2: x; SIGFPE: floating-point exception", within, true},
		{"was ended by SIGABRT", within, true},
		{"was ended by SIGSEGV: x", within, true},
		{"ended without a result", within, true},
		{"ended with code 7", within, true},
		{"ended with code 66: WARNING: ThreadSanitizer: data race (pid=7)", within, true},
		{"ended with code 2: SIGSEGV: segmentation violation", expecting + "3", false},
		{"ended with code 2: SIGSEGV: segmentation violation", "dot/avx2", false},
		{"was ended by SIGKILL", within, false},
		{"was ended by SIGTERM: SIGSEGV is what it says", within, false},
		{"did not end in time", within, false},
		{"did not end in time: SIGSEGV is what it says", within, false},
		{"was stopped", within, false},
		{"wrote more than 65536 bytes where its result belongs", within, false},
		{"ended with code 2: fatal error: out of memory", within, false},
		{"ended with code 2: runtime: out of memory: cannot allocate 4194304-byte block", within, false},
		{"ended with code 2: fatal error: runtime: cannot allocate memory", within, false},
		{"ended with code 2: fatal error: all goroutines are asleep", within, false},
		{"ended with code 2: panic: runtime error: index out of range", within, false},
		{"ended with code 2: what(): std::bad_alloc; SIGABRT: abort", within, false},
		{"ended with code 2: runtime/cgo: pthread_create failed: Resource temporarily unavailable; SIGABRT: abort", within, false},
		{"ended with code 2: x; SIGXCPU: cpu limit exceeded", within, false},
		{"ended with code 1: OpenBLAS : Program is Terminated. Because you tried to allocate too many memory regions.", within, false},
	} {
		if o := (outcome{died: c.died, at: c.at}); o.crashed() != c.want {
			t.Errorf("%s, when %s: %v", c.died, c.at, o.crashed())
		}
	}
}

// suspected is a guard with so many suspects of a library, of an op each in turn.
func suspected(t *testing.T, n int, ops ...string) (*Guard, []quarantine.Suspect) {
	t.Helper()
	l := quarantine.Library{Digest: strings.Repeat("1", 64), File: "lib.so", Machine: strings.Repeat("2", 16), Contract: Contract()}
	var list []quarantine.Suspect
	for i := range n {
		s := quarantine.Suspect{Count: 1, Time: time.Unix(1e9, 0).UTC()}
		s.Kernel, s.Process, s.Sizes[0] = quarantine.Kernel{Library: l, Op: ops[i%len(ops)], Name: "avx2"}, 7, int64(i+1)
		list = append(list, s)
	}
	g := &Guard{Settings: Settings{Folder: t.TempDir()}, known: map[string]quarantine.Library{}}
	text, err := json.Marshal(map[string]any{"format": "setun suspects 1", "entries": list})
	if err != nil || os.WriteFile(filepath.Join(g.Folder, "suspects.json"), text, 0o600) != nil {
		t.Fatal(err)
	}
	g.store = quarantine.At(g.Folder)
	if left := g.store.Pending(l); len(left) != n {
		t.Fatalf("%d are kept", len(left))
	}
	return g, list
}

// fates are what came of all suspects, in their order.
func (g *Guard) fates() (list []string) {
	for _, s := range g.store.Suspects() {
		list = append(list, s.Fate)
	}
	return list
}

func TestRetry(t *testing.T) {
	at := func(n int, died, at string) outcome { return outcome{died: died, at: at, trying: n} }
	segv, within := "ended with code 2: SIGSEGV: segmentation violation", "dot/avx2"+againSuffix
	for name, c := range map[string]struct {
		ends   []outcome // of probes, one after another; then all is well
		probes []int     // suspects that each had
		fates  []string
		blamed string
	}{
		"well":              {nil, []int{4}, []string{"", "", "", ""}, ""},
		"a crash":           {[]outcome{at(1, segv, within)}, []int{4, 2}, []string{quarantine.Failed, "", quarantine.Failed, ""}, "dot"},
		"two":               {[]outcome{at(2, segv, "norm2/avx2"+againSuffix), at(1, segv, within)}, []int{4, 2, 0}, slices.Repeat([]string{quarantine.Failed}, 4), "norm2 dot"},
		"killed":            {[]outcome{at(3, "was ended by SIGKILL", within)}, []int{4, 0}, []string{"", "", quarantine.Untried, ""}, ""},
		"slow":              {[]outcome{at(3, "did not end in time", within)}, []int{4, 0}, []string{"", "", quarantine.Untried, ""}, ""},
		"slow in pure Go":   {[]outcome{at(4, "did not end in time", expecting+"4")}, []int{4, 0}, []string{"", "", "", quarantine.Untried}, ""},
		"later":             {[]outcome{at(0, "did not end in time", "dot/avx2")}, []int{4, 0}, []string{"", "", "", ""}, ""},
		"a library's words": {[]outcome{at(5, segv, within), at(5, segv, within)}, []int{4, 0}, []string{"", "", "", ""}, ""},
		"no probe":          {[]outcome{{absent: true, died: "no such program"}}, []int{4}, []string{"", "", "", ""}, ""},
	} {
		g, list := suspected(t, 4, "dot", "norm2")
		var probes []int
		o, left := g.retry(list, func(again []quarantine.Suspect) outcome {
			probes = append(probes, len(again))
			if n := len(probes); n <= len(c.ends) {
				return c.ends[n-1]
			}
			return outcome{result: result{Kind: fit}}
		})
		var blamed []string
		for _, e := range g.store.List() {
			blamed = append(blamed, e.Op)
		}
		if !slices.Equal(probes, c.probes) || !slices.Equal(g.fates(), c.fates) || strings.Join(blamed, " ") != c.blamed || len(left) != probes[len(probes)-1] {
			t.Errorf("%s: probes with %d suspects, fates %q, blamed %q, %+v, %d left", name, probes, g.fates(), blamed, o, len(left))
		}
	}
}

// What the child did not try is not said to have passed, nor is it tried for ever.
func TestSettle(t *testing.T) {
	said := []string{quarantine.Passed, quarantine.Usual, quarantine.Gone, quarantine.Untried, "perfect"}
	g, list := suspected(t, 7, "dot", "norm2", "update", "step", "matmul", "quantize", "constrain")
	g.settle(list, &outcome{result: result{Again: said, Failures: []selftest.Failure{{Op: "quantize"}}}})
	if got, want := g.fates(), append(said[:4:4], "", quarantine.Failed, ""); !slices.Equal(got, want) {
		t.Errorf("%q, wanted %q", got, want)
	}
	g, list = suspected(t, 2, "dot")
	if g.settle(list, &outcome{}); !slices.Equal(g.fates(), []string{"", ""}) { // there was no device
		t.Errorf("%q", g.fates())
	}
}

// The child says of each call whether it was tried.
func TestAgainInTheChild(t *testing.T) {
	s := spec{Again: []call{
		{Op: "dot", Kernel: "go", Sizes: [quarantine.Dims]int64{5000}}, {Op: "dot", Kernel: "go", Sizes: [quarantine.Dims]int64{1 << 30}}, {Op: "kmeans", Kernel: "go", Sizes: [quarantine.Dims]int64{50, 2, 3}},
		{Op: "dot", Kernel: "avx2"}, {Op: quarantine.Copies, Kernel: "cuda"}, {Op: "norm2", Kernel: "go", Sizes: [quarantine.Dims]int64{9}},
	}}
	var r result
	var steps []string
	r.again(&s, cpu.Backend{}, func(at string) { steps = append(steps, at) })
	want := []string{quarantine.Passed, quarantine.Usual, quarantine.Usual, quarantine.Gone, quarantine.Usual, quarantine.Passed}
	if !slices.Equal(r.Again, want) || len(r.Failures) != 0 {
		t.Errorf("%q, %v", r.Again, r.Failures)
	}
	if want := []string{expecting + "1", "dot/go" + againSuffix, expecting + "2", expecting + "3", expecting + "6", "norm2/go" + againSuffix}; !slices.Equal(steps, want) {
		t.Errorf("%q", steps)
	}
	// As far as that is read, the parent knows which one it was at.
	for n, trying := range []int{1, 1, 2, 3, 6, 6} {
		var o outcome
		o.read(nonce, []byte(hello(nonce)+"\nat "+strings.Join(steps[:n+1], "\nat ")+"\n"))
		if o.trying != trying || o.at != steps[n] {
			t.Errorf("%q: at call %d", steps[:n+1], o.trying)
		}
	}
	var o outcome
	if o.read(nonce, []byte(hello(nonce)+"\nat "+strings.Join(steps, "\nat ")+"\nat closing it\n")); o.trying != 0 {
		t.Errorf("afterwards: at call %d", o.trying)
	}
	var none result
	if none.again(&spec{}, cpu.Backend{}, nil); none.Again != nil {
		t.Errorf("%q", none.Again)
	}
}

// A probe tries some of many, the latest.
func TestRetryIsBounded(t *testing.T) {
	g, list := suspected(t, 3*maxAgain, "dot")
	var seen []quarantine.Suspect
	_, left := g.retry(list, func(again []quarantine.Suspect) outcome {
		seen = again
		return outcome{}
	})
	if !slices.Equal(left, seen) || len(seen) != maxAgain || seen[maxAgain-1] != list[3*maxAgain-1] {
		t.Errorf("%+v, %+v", seen, left)
	}
}
