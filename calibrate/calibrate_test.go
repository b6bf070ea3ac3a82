// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/plugin"
)

// calibrate runs a command as the shell would and returns its exit code and outputs.
func calibrate(args ...string) (code int, out, stderr string) {
	var o, e bytes.Buffer
	code = dispatchCommand(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestWrongUsage(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	for _, args := range [][]string{{}, {"paint"}, {"run", "--slow"}, {"run", "fast"}, {"explain"}, {"explain", "quantize"}, {"explain", "add", "5"}, {"explain", "kmeans", "10"}, {"bench", "--op", "add"}} {
		if code, out, stderr := calibrate(args...); code != exitUsage || stderr == "" || out != "" {
			t.Errorf("calibrate %v: code %d, %q, %q", args, code, out, stderr)
		}
	}
	if code, _, _ := calibrate("help"); code != 0 {
		t.Errorf("help: code %d", code)
	}
}

func TestExplainJSON(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	code, out, stderr := calibrate("explain", "--json", "kmeans", "1000x8x4")
	var x dispatch.Explanation
	if err := json.Unmarshal([]byte(out), &x); code != 0 || err != nil || x.Op != "kmeans" || x.Shape != "1000x8x4" || x.Chosen == "" || len(x.Arms) == 0 {
		t.Errorf("code %d, %s%s (%v)", code, out, stderr, err)
	}
}

func TestDoctor(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	code, out, stderr := calibrate("doctor", "--json")
	var d map[string]any
	if err := json.Unmarshal([]byte(out), &d); code != 0 || err != nil {
		t.Fatalf("code %d, %s%s (%v)", code, out, stderr, err)
	}
	for _, key := range []string{"machine", "isa", "backends", "self_test"} {
		if d[key] == nil {
			t.Errorf("no %s in %s", key, out)
		}
	}
	// A library that is there and cannot be loaded is a degraded state, named with its path.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, plugin.FileName("simd_c")), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SETUN_BACKEND_PATH", dir)
	if code, out, stderr := calibrate("doctor"); code != exitDegraded || !strings.Contains(stderr, dir) || !strings.Contains(out, "refused") {
		t.Errorf("junk library: code %d, %q, %q", code, out, stderr)
	}
}

func TestGridIsValid(t *testing.T) {
	for _, quick := range []bool{true, false} {
		for _, op := range backends.Ops() {
			jobs := append(grid(op, quick), benchJobs(op, quick)...)
			if len(jobs) == 0 {
				t.Errorf("%v: nothing to measure", op)
			}
			for _, j := range jobs {
				if j.shape.Op != op || j.shape.N < 1 || op == backends.OpKMeans && j.shape.K > j.shape.N {
					t.Errorf("%v: %+v", op, j)
				}
			}
		}
	}
}

// TestInterruptedRunSavesNothing ends the context before the first measurement.
func TestInterruptedRunSavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var o, e bytes.Buffer
	if code := dispatchCommand(ctx, []string{"run", "--quick", "--out", path}, &o, &e); code != exitInterrupted {
		t.Errorf("code %d, %s", code, e.String())
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a profile was saved")
	}
}
