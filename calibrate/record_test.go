// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

// TestRecordedProgram is the program that TestRecordAndReplay records; by itself it does nothing.
func TestRecordedProgram(t *testing.T) {
	if os.Getenv(runtime.TraceVariable) == "" {
		t.Skip("run by TestRecordAndReplay")
	}
	rt, err := runtime.Open(runtime.WithoutNative())
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 4096)
	for i := range 200 {
		if _, err := rt.Norm2(x[:16<<(i%8)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRecordAndReplay(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SETUN_PROFILE", filepath.Join(dir, "none.json"))
	path := filepath.Join(dir, "calls.trace")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, out, stderr := calibrate("record", "--json", "--out", path, "--", self, "-test.run", "^TestRecordedProgram$")
	var r struct {
		Ops []struct {
			Op    string
			Calls int
		}
	}
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || len(r.Ops) != 1 || r.Ops[0].Op != "norm2" || r.Ops[0].Calls != 200 {
		t.Fatalf("code %d, %s %s", code, out, stderr)
	}
	tr, err := readTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	// A profile in which pure Go has a rival that is faster from some size on; the trace is said to be from that machine.
	p := &dispatch.Profile{Fingerprint: tr.Fingerprint}
	p.Set(backends.OpNorm2, dispatch.Arm{Backend: "cpu", Kernel: "go"}, dispatch.Model{Coef: dispatch.Coef{50, 0.25}})
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(dir, "profile.json")
	if err := os.WriteFile(profile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr = calibrate("regret", "--json", "--trace", path, "--profile", profile, "--policy", "learn,profile,starpu,cpu")
	var x struct {
		Calls    int
		Policies []replayed
	}
	if err := json.Unmarshal([]byte(out), &x); code != 0 || err != nil || x.Calls != 200 || len(x.Policies) != 4 {
		t.Fatalf("code %d, %s %s", code, out, stderr)
	}
	for _, y := range x.Policies { // there is one arm
		if y.Calls != 200 || y.Ratio != 1 || y.TotalNs <= 0 {
			t.Errorf("%+v", y)
		}
	}
	for want, args := range map[string][]string{
		"calibrate run":      {"regret", "--trace", path},
		"no such file":       {"regret", "--trace", path + "x"},
		"policies are learn": {"regret", "--trace", path, "--profile", profile, "--policy", "luck"},
		"is there already":   {"record", "--out", path, "--", self},
		"no program to run":  {"record", "--out", path + "y"},
		"wrote no trace":     {"record", "--out", path + "y", "--", self, "-test.run", "^$"},
		"trace is damaged":   {"regret", "--trace", profile},
	} {
		if code, out, stderr := calibrate(args...); code == 0 || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("calibrate %v: code %d, %q, %q", args, code, out, stderr)
		}
	}
}

// TestReplayOfTwoArms prices a trace on made-up arms: static choices cost what the models say, and learning finds the better one.
func TestReplayOfTwoArms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.trace")
	rt, err := runtime.Open(runtime.WithoutNative(), runtime.WithProfile(""), runtime.WithTrace(path))
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 4096)
	for range 3000 {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	tr, err := readTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tr.Calls { // as the profile below predicts: what this machine took is not what is tested
		tr.Calls[i].Nanos = 0.25 * 4 * 4096
	}
	rival := dispatch.Arm{Backend: "third", Kernel: "quick"}
	tr.Arms["norm2"] = append(tr.Arms["norm2"], rival)
	p := &dispatch.Profile{}
	p.Set(backends.OpNorm2, dispatch.Arm{Backend: "cpu", Kernel: "go"}, dispatch.Model{Coef: dispatch.Coef{0, 0.25}})
	p.Set(backends.OpNorm2, rival, dispatch.Model{Coef: dispatch.Coef{0, 0.05}})
	s, err := newStage(tr, p)
	if err != nil {
		t.Fatal(err)
	}
	for policy, most := range map[string]float64{"profile": 1, "third": 1, "learn-profile": 1.02, "learn": 1.2, "starpu": 1.2} {
		if y, err := s.play(policy, 1); err != nil || y.Ratio > most || y.Ratio < 1 {
			t.Errorf("%s: %+v, %v", policy, y, err)
		}
	}
	if y, err := s.play("cpu", 1); err != nil || y.Ratio < 4.99 || y.Ratio > 5.01 {
		t.Errorf("%+v, %v", y, err)
	}
}
