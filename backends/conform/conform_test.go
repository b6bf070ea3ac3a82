// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/every"
	"github.com/setun-compute/setun/internal/plugin"
)

// libraries are the folder of the libraries that `make native` built in this checkout.
func libraries() []plugin.Place {
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../../native/build/release")
	}
	return []plugin.Place{{Path: dir, Origin: "test"}}
}

// TestEveryArm is the suite on all that this machine has.
func TestEveryArm(t *testing.T) {
	all := every.Open(libraries(), "", os.Getenv(blas.Variable), os.Getenv(cuda.CUBLASVariable))
	defer all.Close()
	required(t, all)
	conform.Check(t, all.Arms)
}

// required fails where a library is missing that has to be there.
func required(t testing.TB, all *every.Set) {
	for _, a := range all.Tried {
		t.Logf("%s: %s %s", a.Name, a.State, a.Reason)
		optional := a.Name == blas.Name || a.Name == cuda.Name && (a.State == plugin.NoDevice || a.State == plugin.Missing)
		if a.State != plugin.Loaded && !optional && os.Getenv("SETUN_TEST_NATIVE") == "require" {
			t.Errorf("%s is required: %s", a.Name, a.Reason)
		}
	}
}
