// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/mpitest"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train"
	"github.com/setun-compute/setun/train/parallel"
)

// ranks is the command as two processes of mpirun.
func ranks(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := mpitest.Command(t, "2", os.Args[0], args...)
	cmd.Env = append(os.Environ(), child+"=1", "SETUN_PROFILE=none")
	return cmd
}

// TestTwoProcesses trains with mpirun; the checkpoint is that of two goroutines, bit for bit. A run that is stopped and goes on has it too.
func TestTwoProcesses(t *testing.T) {
	t.Setenv("SETUN_PROFILE", "none")
	args := append(files(t), "-steps", "20", "-compress", "ternary-row")
	dir := t.TempDir()
	processes, goroutines := filepath.Join(dir, "processes"), filepath.Join(dir, "goroutines")
	var out, errs bytes.Buffer
	for _, more := range [][]string{{"-stop", "7"}, {"-json", "-resume"}} {
		cmd := ranks(t, append(append(args, "-out", processes), more...)...)
		out.Reset()
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
	}
	var s train.Summary
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.Config.Ranks != 2 || s.WireBytes == 0 || s.WireTotal < 26*s.WireBytes || s.WireRatio < 5 {
		t.Errorf("%v\n%s", err, out.String())
	}
	preset, err := train.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	config, err := train.Load(args[3], preset)
	config.Data, config.Steps, config.Compress = args[1], 20, "ternary-row"
	var all sync.WaitGroup
	for _, p := range parallel.Local(2) {
		rt, failed := runtime.Open()
		if err = errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		all.Go(func() {
			defer p.Close()
			if _, _, err := train.Run(t.Context(), rt, config, train.Options{Folder: goroutines, Peers: p}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	a, errA := os.ReadFile(filepath.Join(processes, "checkpoint.stn"))
	b, errB := os.ReadFile(filepath.Join(goroutines, "checkpoint.stn"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("other checkpoints: %v, %v", errA, errB)
	}
}

// TestKilledRank: when one process is killed mpirun ends the other, and what the folder has is good to go on from.
func TestKilledRank(t *testing.T) {
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skipf("finds its ranks in /proc: %v", err)
	}
	t.Setenv("SETUN_PROFILE", "none")
	folder := filepath.Join(t.TempDir(), "run")
	args := append(files(t), "-out", folder, "-resume")
	cmd := ranks(t, append(args, "-steps", "100000")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	checkpoint := filepath.Join(folder, "checkpoint.stn")
	killed := false
	for deadline := time.Now().Add(30 * time.Second); !killed && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(checkpoint); err == nil {
			killed = killRank(t, "1", folder)
		}
	}
	if err := <-ended; !killed || err == nil {
		t.Fatalf("killed: %v; mpirun: %v", killed, err)
	}
	var out bytes.Buffer
	cmd = ranks(t, append(args, "-steps", "100000", "-stop", "1")...) // a step that is behind it: the checkpoint is read and nothing more
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// killRank kills the process of a rank that has an argument, and says whether there was one.
func killRank(t *testing.T, rank, argument string) bool {
	t.Helper()
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		environment, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !strings.Contains("\x00"+string(environment), "\x00OMPI_COMM_WORLD_RANK="+rank+"\x00") && !strings.Contains("\x00"+string(environment), "\x00PMI_RANK="+rank+"\x00") {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.Contains(string(line), argument) {
			continue
		}
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p, err := os.FindProcess(id); err == nil && p.Kill() == nil {
			return true
		}
	}
	return false
}

// TestOneProcessTells: what is wrong is said once, by the process with rank 0.
func TestOneProcessTells(t *testing.T) {
	var out bytes.Buffer
	cmd := ranks(t, "-data", "/nowhere.txt")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || strings.Count(out.String(), "/nowhere.txt") != 1 {
		t.Errorf("%v\n%s", err, out.String())
	}
}
