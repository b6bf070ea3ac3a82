// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/train"
)

// child makes the test's program the command, to be killed.
const child = "SETUN_TRAIN_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// files writes a small text and a configuration, and returns the flags that name them.
func files(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	for i := range 400 {
		fmt.Fprintf(&b, "%d bottles of beer on the wall, %d of them green\n", i, i*7%13)
	}
	text, config := filepath.Join(dir, "text"), filepath.Join(dir, "run.json")
	settings := `{"vocabulary": "char", "layers": 1, "heads": 2, "width": 32, "context": 16, "batch": 4, "steps": 60, "warmup": 5, "eval_every": 20, "eval_batches": 2, "checkpoint_every": 2, "radius": 0.5, "aux": true}`
	for path, content := range map[string]string{text: b.String(), config: settings} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"-data", text, "-config", config, "-sample", "10"}
}

// TestKilledRunGoesOn kills the process with no chance to save, several times; what it goes on from is its latest checkpoint, and the end is that of a run that nobody killed, bit for bit.
func TestKilledRunGoesOn(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	args := files(t)
	dir := t.TempDir()
	whole, killed := filepath.Join(dir, "whole"), filepath.Join(dir, "killed")
	var out, err bytes.Buffer
	if code := run(t.Context(), append(args, "-out", whole), &out, &err); code != 0 {
		t.Fatalf("%d: %s", code, err.String())
	}
	kills := 0
	for i := range 8 {
		cmd := exec.Command(os.Args[0], append(args, "-out", killed, "-resume")...)
		cmd.Env = append(os.Environ(), child+"=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(30+25*i)*time.Millisecond, func() { cmd.Process.Kill() })
		if cmd.Wait() != nil {
			kills++
		}
		timer.Stop()
	}
	if code := run(t.Context(), append(args, "-out", killed, "-resume"), &out, &err); code != 0 {
		t.Fatalf("%d: %s", code, err.String())
	}
	a, errA := os.ReadFile(filepath.Join(whole, "checkpoint.stn"))
	b, errB := os.ReadFile(filepath.Join(killed, "checkpoint.stn"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("after %d kills the checkpoint differs from that of a run in one go: %v, %v", kills, errA, errB)
	}
	t.Logf("%d kills", kills)
}

func TestJSON(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	var out, err bytes.Buffer
	if code := run(t.Context(), append(files(t), "-json", "-steps", "20"), &out, &err); code != 0 {
		t.Fatalf("%d: %s", code, err.String())
	}
	var s train.Summary
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.Step != 20 || s.Validation <= 0 || s.Parameters == 0 || len(s.Kernels) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCompare(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	var out, err bytes.Buffer
	if code := run(t.Context(), append(files(t), "-compare", "-seeds", "2", "-steps", "10"), &out, &err); code != 0 {
		t.Fatalf("%d: %s", code, err.String())
	}
	for _, name := range []string{"as configured", "float32", "int8 activations", "ternary from a tenth on", "without trust region", "without auxiliary network"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%q is not in the table:\n%s", name, out.String())
		}
	}
	if strings.Contains(out.String(), "without clusters") {
		t.Errorf("a control that changes nothing was trained:\n%s", out.String())
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-preset", "huge"}, exitUsage, "shakespeare"},
		{[]string{"file"}, exitUsage, `"file" is not a flag`},
		{[]string{"-resume"}, exitUsage, "-resume needs -out"},
		{[]string{"-config", "/nowhere.json"}, exitFailed, "/nowhere.json"},
		{[]string{"-data", "/nowhere.txt"}, exitFailed, "/nowhere.txt"},
		{[]string{"-steps", "many"}, exitUsage, "many"},
		{[]string{"-device", "gpu"}, exitUsage, "cuda:0"},
		{[]string{"-device", "cuda:-1"}, exitUsage, "cuda:0"},
		{[]string{"-device", "cuda:77"}, exitFailed, "-device cuda:77: "},
	} {
		var out, err bytes.Buffer
		if code := run(t.Context(), c.args, &out, &err); code != c.code || !strings.Contains(err.String(), c.says) || out.Len() > 0 {
			t.Errorf("%q: %d, %q; want %d with %q", c.args, code, err.String(), c.code, c.says)
		}
	}
}
