// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/raisedtest"
)

// A user must not choose the driver of a program that has privileges which he lacks. The one named here is refused wherever it is looked at.
func TestDriverInRaisedProcess(t *testing.T) {
	const variable = "SETUN_CUDA_TEST_FOLDER"
	if dir := os.Getenv(variable); dir != "" {
		_, tried := cuda.Open([]plugin.Place{{Path: dir}}, []int{0}, cuda.Fast{})
		fmt.Printf("%s: %s\n", tried[0].State, tried[0].Reason)
		os.Exit(0)
	}
	library := filepath.Join(folder(), plugin.FileName(cuda.Name))
	if _, err := os.Stat(library); err != nil {
		if os.Getenv("SETUN_TEST_NATIVE") == "require" {
			t.Fatal(err)
		}
		t.Skipf("no CUDA library (run make native): %v", err)
	}
	dir := raisedtest.Folder(t, library)
	for _, raised := range []bool{false, true} {
		said := raisedtest.Run(t, dir, t.Name(), raised, variable+"="+dir, driverVariable+"=mine.so")
		if believed := strings.Contains(said, "mine.so is not an absolute path"); believed == raised || strings.Contains(said, "refused") {
			t.Errorf("raised: %v: %s", raised, said)
		}
	}
}
