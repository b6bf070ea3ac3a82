// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/train"
)

// called runs the command.
func called(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

// trained is the folder of a run, and what it printed as JSON.
func trained(t *testing.T) (folder string, s train.Summary) {
	t.Helper()
	t.Setenv("SETUN_PROFILE", "none")
	folder = filepath.Join(t.TempDir(), "run")
	code, out, err := called(t, append(files(t), "-out", folder, "-steps", "20", "-json")...)
	if code != 0 {
		t.Fatalf("%d: %s", code, err)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return folder, s
}

// TestTrainThenGenerate goes all the way: a run, its model file, and the same text from that and from the checkpoint beside it, as text and as JSON.
func TestTrainThenGenerate(t *testing.T) {
	folder, s := trained(t)
	packed, checkpoint := filepath.Join(folder, "model.stn"), filepath.Join(folder, "checkpoint.stn")
	info, err := os.Stat(packed)
	if err != nil || s.Model == nil || s.Model.Bytes != info.Size() || s.Model.TernaryRatio < 15 || s.Model.Ratio < 1 {
		t.Fatalf("%+v: %v", s.Model, err)
	}
	for _, name := range []string{"summary.json", "report.html"} {
		if b, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.Contains(b, []byte("ternary tensors in the file")) && !bytes.Contains(b, []byte(`"ternary_bytes"`)) {
			t.Errorf("%s says nothing of the model file: %v", name, err)
		}
	}
	// The model is all that is needed.
	alone := filepath.Join(t.TempDir(), "alone.stn")
	if b, err := os.ReadFile(packed); err != nil || os.WriteFile(alone, b, 0o600) != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{{}, {"-seed", "7"}, {"-prompt", "3 bottles", "-seed", "8"}, {"-temperature", "0"}, {"-temperature", "1.5", "-top", "0", "-prompt", "wall"}} {
		args := append([]string{"-sample", "50"}, more...)
		code, said, stderr := called(t, append(args, "-generate", alone)...)
		if code != 0 || stderr != "" || len(said) < 51 {
			t.Fatalf("%q: %d, %q, %q", args, code, said, stderr)
		}
		if code, also, stderr := called(t, append(args, "-generate", checkpoint)...); code != 0 || also != said {
			t.Errorf("%q: %d, %q from the checkpoint, %q from the model: %s", args, code, also, said, stderr)
		}
		var g [2]generated
		for i, file := range []string{alone, checkpoint} {
			code, out, stderr := called(t, append(args, "-json", "-generate", file)...)
			if err := json.Unmarshal([]byte(out), &g[i]); code != 0 || err != nil {
				t.Fatalf("%q: %d, %v, %s", args, code, err, stderr)
			}
		}
		if g[0].Kind != "model" || g[1].Kind != "checkpoint" || g[0].Step != 20 || g[1].Step != 20 || !slices.Equal(g[0].Tokens, g[1].Tokens) || len(g[0].Tokens) != 50 || g[0].Prompt+g[0].Text+"\n" != said || g[0].Model != g[1].Model {
			t.Errorf("%q: %+v, %+v, and as text %q", args, g[0], g[1], said)
		}
	}
	if code, out, _ := called(t, "-generate", alone, "-sample", "0", "-prompt", "wall"); code != 0 || out != "wall\n" {
		t.Errorf("no tokens: %d, %q", code, out)
	}
}

func TestWrongGeneration(t *testing.T) {
	folder, _ := trained(t)
	packed := filepath.Join(folder, "model.stn")
	whole, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	damaged := slices.Clone(whole)
	damaged[len(damaged)/3] ^= 4
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-generate", "/nowhere.stn"}, exitFailed, "/nowhere.stn"},
		{[]string{"-generate", folder}, exitFailed, "not a regular file"},
		{[]string{"-generate", filepath.Join(folder, "metrics.jsonl")}, exitFailed, "not a model"},
		{[]string{"-generate", file("short", whole[:len(whole)/2])}, exitFailed, "cut off"},
		{[]string{"-generate", file("damaged", damaged)}, exitFailed, "checksum"},
		{[]string{"-generate", packed, "-prompt", "Ж"}, exitUsage, `'Ж' at byte 0`},
		{[]string{"-generate", packed, "-prompt", strings.Repeat("a", 17)}, exitUsage, "17 tokens, the model's context 16"},
		{[]string{"-generate", packed, "-temperature", "-1"}, exitUsage, "temperature"},
		{[]string{"-generate", packed, "-temperature", "NaN"}, exitUsage, "temperature"},
		{[]string{"-generate", packed, "-top", "-1"}, exitUsage, "topK"},
		{[]string{"-generate", packed, "-sample", "-1"}, exitUsage, "-1"},
		{[]string{"-generate", packed, "-out", folder, "-resume"}, exitUsage, "-out, -resume beside -generate"},
		{[]string{"-prompt", "a", "-top", "3"}, exitUsage, "-prompt, -top without -generate"},
	} {
		if code, out, err := called(t, c.args...); code != c.code || !strings.Contains(err, c.says) || out != "" {
			t.Errorf("%q: %d, %q, %q; want %d with %q", c.args, code, out, err, c.code, c.says)
		}
	}
}

// TestControlsOfAPrecision: with a ramp the schedules of layers are compared, without none.
func TestControlsOfAPrecision(t *testing.T) {
	names := func(c train.Config) (all []string) {
		for _, x := range controls(c) {
			changed := c
			if x.change(&changed); changed.Check() != nil {
				t.Errorf("%s: %v", x.name, changed.Check())
			}
			all = append(all, x.name)
		}
		return all
	}
	c := train.Default()
	if all := strings.Join(names(c), ", "); strings.Contains(all, "layers") {
		t.Errorf("without a ramp: %s", all)
	}
	c.Start, c.Ramp, c.Precision = 0.1, 0.5, "sensitivity"
	if all := strings.Join(names(c), ", "); !strings.Contains(all, "all layers together, layers by depth, layers by depth, last first") || strings.Contains(all, "by sensitivity") {
		t.Errorf("with a ramp: %s", all)
	}
}
