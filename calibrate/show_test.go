// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

func TestShow(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	dir := t.TempDir()
	code, out, stderr := calibrate("show", "--json", "--plot", filepath.Join(dir, "all.png"))
	var x struct {
		Models     []model
		Thresholds []dispatch.Threshold
	}
	if err := json.Unmarshal([]byte(out), &x); code != 0 || err != nil || len(x.Models) < 8 || len(x.Thresholds) < 8 {
		t.Fatalf("code %d, %.200s %s (%v)", code, out, stderr, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "all.png"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	if code, out, stderr := calibrate("show", "--plot", filepath.Join(dir, "dot.svg"), "dot"); code != 0 || !strings.Contains(out, "dot") || strings.Contains(out, "quantize") {
		t.Errorf("code %d, %s %s", code, out, stderr)
	}
	if data, err = os.ReadFile(filepath.Join(dir, "dot.svg")); err != nil || !bytes.Contains(data, []byte("</svg>")) {
		t.Errorf("%.100s %v", data, err)
	}
	for _, args := range [][]string{{"show", "add"}, {"show", "--plot", "x.gif"}, {"show", "dot", "norm2"}, {"export", "x"}, {"reset", "x"}} {
		if code, out, stderr := calibrate(args...); code != exitUsage || stderr == "" || out != "" {
			t.Errorf("calibrate %v: code %d, %q, %q", args, code, out, stderr)
		}
	}
}

// TestExportedThresholdsDecide exports a table, and a runtime obeys it and learns nothing.
func TestExportedThresholdsDecide(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	path := filepath.Join(t.TempDir(), "thresholds.json")
	if code, out, stderr := calibrate("export", "--thresholds", "--out", path); code != 0 || out != "" {
		t.Fatalf("code %d, %q, %q", code, out, stderr)
	}
	rt, err := runtime.Open(runtime.WithThresholds(path))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	free, err := runtime.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	for _, shape := range []string{"1", "1000", "1000000"} {
		s, err := dispatch.ParseShape("norm2", shape)
		if err != nil {
			t.Fatal(err)
		}
		if x, y := rt.Explain(s), free.Explain(s); !strings.HasPrefix(x.Reason, "listed for this size") || x.Chosen != y.Chosen {
			t.Errorf("%s: %+v; without the table %s", shape, x, y.Chosen)
		}
	}
	if rt.Learning().On {
		t.Error("it learns")
	}
	if code, _, stderr := calibrate("export"); code != 1 || !strings.Contains(stderr, "calibrate run") {
		t.Errorf("code %d, %q", code, stderr)
	}
}

func TestReset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	t.Setenv("SETUN_PROFILE", path)
	if code, out, stderr := calibrate("reset"); code != 0 || !strings.Contains(out, "no profile") {
		t.Errorf("code %d, %q, %q", code, out, stderr)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := calibrate("reset"); code != 0 || !strings.Contains(out, path+".old") {
		t.Errorf("code %d, %q, %q", code, out, stderr)
	}
	if data, err := os.ReadFile(path + ".old"); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
}
