// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conform_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/internal/plugin"
)

// TestOneUnitInOneLaneIsNoticed runs the suite on a library that is right but for the last bit of one lane in sixteen: it must fail for each op.
func TestOneUnitInOneLaneIsNoticed(t *testing.T) {
	real := filepath.Join(libraries()[0].Path, plugin.FileName(simdc.Name))
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	if _, err := os.Stat(real); err != nil {
		t.Skipf("no native library (run make native): %v", err)
	}
	dir := t.TempDir()
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-I../../native/include", `-DREAL="`+real+`"`, "-o", filepath.Join(dir, plugin.FileName("planted")), "testdata/planted.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, tried := plugin.Load("planted", []plugin.Place{{Path: dir, Origin: "test"}})
	if b == nil {
		t.Fatalf("%+v", tried)
	}
	defer b.Close()
	r, err := conform.Verify(t.Context(), conform.Arms(b), conform.Options{Short: true})
	if err != nil {
		t.Fatal(err)
	}
	noticed := map[string]int{}
	for _, a := range r.Arms {
		if a.Arm == "planted/planted" {
			noticed[a.Op] = a.Mismatches
		} else if a.Mismatches > 0 {
			t.Errorf("%s/%s differs from itself", a.Op, a.Arm)
		}
	}
	for _, op := range backends.Ops() {
		if noticed[op.String()] == 0 {
			t.Errorf("%v: nothing was noticed", op)
		}
	}
	if len(r.Failures) != len(backends.Ops()) || r.Digest != "" {
		t.Errorf("%d failures, digest %q", len(r.Failures), r.Digest)
	}
	for _, f := range r.Failures {
		if !strings.Contains(f, "pure Go") {
			t.Errorf("%q does not say what would be right", f)
		}
	}
	t.Logf("noticed: %v\n%s", noticed, strings.Join(r.Failures, "\n"))
}
