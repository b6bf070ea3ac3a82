// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stepped is a checkpoint whose values all tell its step.
func stepped(step int) *checkpoint {
	c := Default()
	values := slices.Repeat([]float32{float32(step)}, 2000*(1+step%7))
	return &checkpoint{config: c, step: step, floats: map[string][]float32{"param/a": values, "optim/a": values[:100]}, cols: map[string]int{"param/a": 100}, state: map[string]string{stateRun: "{}"}}
}

// stepOf reads one back, whole.
func stepOf(path string) (int, error) {
	c, err := load(path)
	if err != nil {
		return 0, err
	}
	want := stepped(c.step)
	for name, v := range want.floats {
		if !slices.Equal(c.floats[name], v) {
			return 0, fmt.Errorf("%s of step %d has other values", name, c.step)
		}
	}
	return c.step, nil
}

// checkpointVariable makes this program a process that saves checkpoints until it is killed.
const checkpointVariable = "SETUN_TEST_CHECKPOINT"

func init() {
	path := os.Getenv(checkpointVariable)
	if path == "" {
		return
	}
	for step := 1; ; step++ {
		fmt.Println(step)
		if err := stepped(step).save(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// A run that is killed while it saves, at any time, leaves the checkpoint of that step or of the one before, and the next save leaves nothing else.
func TestF23CheckpointOfAKilledRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for round := range 15 {
		path := filepath.Join(folder, checkpointFile)
		c := exec.CommandContext(t.Context(), self)
		c.Env = append(os.Environ(), checkpointVariable+"="+path)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var said []byte
		for part := make([]byte, 1); bytes.Count(said, []byte("\n")) < 2+round%4; {
			if _, err := out.Read(part); err != nil {
				t.Fatalf("%v after %q", err, said)
			}
			said = append(said, part...)
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var rest bytes.Buffer
		rest.ReadFrom(out)
		c.Wait()
		lines := strings.Fields(string(said) + rest.String())
		begun, err := strconv.Atoi(lines[len(lines)-1])
		if err != nil {
			t.Fatalf("%q", lines)
		}
		if step, err := stepOf(path); err != nil || step != begun && step != begun-1 {
			t.Fatalf("killed in step %d: step %d, %v", begun, step, err)
		}
		if err := stepped(100).save(path); err != nil {
			t.Fatal(err)
		}
		if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
			t.Fatalf("left behind: %v, %v", files, err)
		}
	}
}

// What a power loss leaves of the metrics: lines that are cut off, or zeros, be they as many as they like. What is before is read.
func TestF23MetricsAfterAPowerLoss(t *testing.T) {
	var whole bytes.Buffer
	for step := range 5 {
		if err := (metrics{&whole}).add(&Record{Step: step + 1, Loss: 1}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), metricsFile)
	for n := range whole.Len() + 1 {
		for _, zeros := range []int{0, 1, 5000, 70_000, 1 << 20} {
			if zeros > 1 && n%20 != 0 {
				continue
			}
			data := append(bytes.Clone(whole.Bytes()[:n]), make([]byte, zeros)...)
			lines := bytes.Count(whole.Bytes()[:n], []byte("\n"))
			if zeros == 0 && n > 0 && n < whole.Len() && whole.Bytes()[n] == '\n' {
				lines++ // only the newline is missing
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			list, err := readRecords(path, 10)
			if err != nil || len(list) != lines {
				t.Fatalf("%d bytes and %d zeros: %d records, %v; want %d", n, zeros, len(list), err, lines)
			}
			for i, r := range list {
				if r.Step != i+1 {
					t.Fatalf("%d bytes and %d zeros: %+v", n, zeros, list)
				}
			}
		}
	}
}

// Nothing in a checkpoint or its file depends on the clock.
func TestF25ClockJumps(t *testing.T) {
	var want []byte
	for _, at := range []time.Time{time.Unix(0, 0), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), {}} {
		path := filepath.Join(t.TempDir(), checkpointFile)
		if err := stepped(1).save(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if step, err := stepOf(path); err != nil || step != 1 {
			t.Errorf("%v: %d, %v", at, step, err)
		}
		if err := stepped(2).save(path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = data
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%v: another file", at)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{"", "{}", "null", "[]", `{"width": 256, "data": "x.txt"}`, `{"width": 1e308}`, `{"learning_rate": 1e999}`, `{"steps": -1}`, `{"layers": 1.5}`, `{"data":"\ud800"}`, `{"width": 256} {}`, `{"clusters": 4, "radius": 1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, Default())
		if err != nil {
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("an error without a sentinel: %v", err)
			}
			return
		}
		if err := c.Check(); err != nil {
			t.Fatalf("%q was taken: %v", data, err)
		}
		if c.Differences(c) != nil {
			t.Fatalf("%+v differs from itself", c)
		}
	})
}

// FuzzCheckpoint is about what of a checkpoint lies in its metadata; its tensors are fuzzed where .stn files are read.
func FuzzCheckpoint(f *testing.F) {
	f.Add("{}", "1", "{}", "{}")
	f.Add(`{"data":"go","width":64,"heads":4}`, "-1", `{"recent":[1,2],"text":7,"layers":{}}`, `{"Step":1,"Labels":{"a":[0,1]}}`)
	f.Add(`{"width":0}`, "99999999999999999999", "null", "[")
	f.Fuzz(func(t *testing.T, config, step, run, state string) {
		c, err := describe("path", map[string]string{keyConfig: config, keyStep: step, keyState + stateRun: run, keyState + stateOptim: state, keyState: "", "other": ""})
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "path") && config != "" {
				t.Fatalf("an error without a sentinel or a file: %v", err)
			}
			return
		}
		if c.step < 0 || len(c.state) != 2 {
			t.Fatalf("%+v", c)
		}
		var r running
		if err := c.get(stateRun, &r); err != nil {
			if !errors.Is(err, ErrCheckpoint) {
				t.Fatal(err)
			}
			return
		}
		if err := r.Layers.check(4); err != nil && !errors.Is(err, ErrCheckpoint) {
			t.Fatal(err)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("{\"step\":1,\"loss\":2}\n{\"step\":2,\"aux\":{\"ratio\":1}}\n{\"step\":"))
	f.Add(bytes.Repeat([]byte{0}, 70_000))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := scanRecords(bytes.NewReader(data), 100)
		if err != nil || len(list) > bytes.Count(data, []byte("\n"))+1 {
			t.Fatalf("%d records, %v", len(list), err)
		}
		for _, r := range list {
			if r.Step > 100 {
				t.Fatalf("%+v", r)
			}
		}
	})
}
