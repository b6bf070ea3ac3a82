// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	setun "github.com/setun-compute/setun/runtime"
)

// Variables of the environment.
const (
	durationVariable = "SETUN_SOAK"       // of a test, "10m"; by default a few seconds
	childVariable    = "SETUN_SOAK_CHILD" // the process is one that will be killed; its folder
)

func duration(t *testing.T) time.Duration {
	text := os.Getenv(durationVariable)
	switch {
	case text == "" && testing.Short():
		return time.Second
	case text == "":
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func libraries() []setun.Option {
	dir := os.Getenv("SETUN_TEST_LIBRARIES")
	if dir == "" {
		dir, _ = filepath.Abs("../../native/build/release")
	}
	return []setun.Option{setun.WithLibraries(dir)}
}

// under runs a load, and ends the process with all stacks when it does not end: somebody waits for somebody.
func under(t *testing.T, o Options) Report {
	t.Helper()
	guard := time.AfterFunc(o.Duration+2*time.Minute, func() { panic("a deadlock: the load has not ended") })
	defer guard.Stop()
	o.Seed, o.Open = rand.Uint64(), libraries()
	if o.Folder == "" {
		o.Folder = t.TempDir()
	}
	t.Setenv("SETUN_STATE", filepath.Join(o.Folder, "state"))
	if os.Getenv(durationVariable) != "" {
		o.Progress = func(calls int64) { fmt.Fprintf(os.Stderr, "\r%d calls", calls) }
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.MarshalIndent(r, "", "  ")
	t.Logf("seed %d: %s", o.Seed, text)
	if r.Calls == 0 || r.Wrong > 0 || r.Errors > 0 {
		t.Errorf("%d calls, %d wrong, %d errors: %s", r.Calls, r.Wrong, r.Errors, strings.Join(r.First, "\n"))
	}
	if len(r.Kernels) < 2 && os.Getenv("SETUN_TEST_NATIVE") != "" {
		t.Errorf("only %v ran", r.Kernels)
	}
	if r.After.Files > r.Before.Files+2 || r.After.Goroutines > r.Before.Goroutines+2 {
		t.Errorf("descriptors or goroutines are left: %+v before, %+v after", r.Before, r.After)
	}
	if r.After.Threads > r.Before.Threads+80 { // Go keeps those that it had for 64 callers
		t.Errorf("%d threads before, %d after", r.Before.Threads, r.After.Threads)
	}
	return r
}

// TestSoak: 64 goroutines, all ops and kernels, every result that of pure Go, and nothing left afterwards.
func TestSoak(t *testing.T) {
	r := under(t, Options{Duration: duration(t)})
	if g := r.Growth(); r.Seconds >= 600 && g >= 0.01 {
		t.Errorf("memory grew by %.2f %% from a fifth of the time on", 100*g)
	}
}

// TestChaos: the same with a fault every second, or in a short test every few milliseconds. Answers are right or errors that say why, and nobody waits for ever.
func TestChaos(t *testing.T) {
	o := Options{Duration: duration(t), Chaos: true}
	if o.Duration < time.Minute {
		o.Every = 50 * time.Millisecond
	}
	r := under(t, o)
	if least := map[bool]int{true: 9, false: 1}[r.Seconds >= 300]; len(r.Faults) < least {
		t.Errorf("faults: %v", r.Faults)
	}
}

// TestKilled: a host that is killed at any time is started again by its supervisor, and answers rightly with the files that it finds.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" {
		r, err := Run(t.Context(), Options{Duration: time.Hour, Workers: 8, Most: 20_000, Seed: rand.Uint64(), Chaos: true, Every: 20 * time.Millisecond, Folder: dir, Open: libraries(), Progress: func(calls int64) { fmt.Printf("\ncalls %d\n", calls) }})
		t.Fatalf("it has ended: %+v, %v", r, err)
	}
	dir := t.TempDir()
	rounds := int(min(duration(t)/time.Second, 300)) / 2
	for range max(rounds, 2) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), childVariable+"="+dir, "SETUN_STATE="+filepath.Join(dir, "state"))
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, answered := bufio.NewScanner(out), false
		for lines.Scan() {
			if answered = strings.HasPrefix(lines.Text(), "calls "); answered {
				break
			}
			t.Log(lines.Text())
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil || !answered {
			t.Fatalf("it answered: %v; it ended with %v", answered, err)
		}
	}
	r := under(t, Options{Duration: time.Second, Workers: 8, Most: 20_000, Folder: dir})
	if r.Calls == 0 {
		t.Error("no call was answered at the end")
	}
}
