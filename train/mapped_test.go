// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/internal/gputest"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/parallel"
)

// onGPU is a runtime whose calls run on a device, and leave nothing but NaN in the program's slices.
func onGPU(t *testing.T) (*runtime.Runtime, *gputest.GPU) {
	t.Helper()
	g := gputest.New()
	g.Stale = true
	return open(t, runtime.WithoutCUDA(), runtime.WithoutLearning(), runtime.WithBackend(g), runtime.WithForce(g.Name())), g
}

// TestMappedRun: a run on a device ends in the files of one in the program's memory, bit for bit, also when it began or went on there.
func TestMappedRun(t *testing.T) {
	everything := small(text(t))
	plain := everything
	plain.Int8, plain.Radius, plain.Clusters, plain.Aux, plain.DataClusters, plain.Curriculum = false, 0, 0, false, 0, false
	float32s := plain
	float32s.Ternary = false
	for name, c := range map[string]Config{"everything": everything, "ternary": plain, "float32": float32s} {
		c.Steps = 12
		straight, parts := t.TempDir(), t.TempDir()
		if _, _, err := Run(t.Context(), open(t), c, Options{Folder: straight}); err != nil {
			t.Fatal(err)
		}
		for i, stop := range []int{3, 7, 0} { // on the device, off it, on it
			rt, g := onGPU(t)
			mapped := i != 1
			if !mapped {
				rt = open(t)
			}
			if _, _, err := Run(t.Context(), rt, c, Options{Folder: parts, Resume: true, Stop: stop, Mapped: mapped}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if mapped && (g.Calls == 0 || g.Buffers() != 0) {
				t.Errorf("%s: %d calls on the device, %d buffers left", name, g.Calls, g.Buffers())
			}
		}
		for _, file := range []string{checkpointFile, modelFile} {
			a, errA := os.ReadFile(filepath.Join(straight, file))
			b, errB := os.ReadFile(filepath.Join(parts, file))
			if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: another %s on the device: %v", name, file, err)
			}
		}
	}
}

// TestMappedRunOnCUDA is one on a CUDA device, or what stands in for one.
func TestMappedRunOnCUDA(t *testing.T) {
	probe := open(t, runtime.WithCUDA(0))
	if !slices.ContainsFunc(probe.Report().Backends, func(b runtime.BackendReport) bool { return b.Name == cuda.Name && b.State == "loaded" }) {
		gputest.NoCUDA(t, "there is no device")
	}
	c := small(text(t))
	c.Int8, c.Radius, c.Clusters, c.Aux, c.DataClusters, c.Curriculum = false, 0, 0, false, 0, false
	c.Steps, c.Accumulate = 6, 1
	want, got := t.TempDir(), t.TempDir()
	if _, _, err := Run(t.Context(), open(t, runtime.WithoutCUDA()), c, Options{Folder: want}); err != nil {
		t.Fatal(err)
	}
	s, _, err := Run(t.Context(), open(t, runtime.WithCUDA(0), runtime.WithoutLearning(), runtime.WithForce(cuda.Name)), c, Options{Folder: got, Mapped: true})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(weights(t, want), weights(t, got)) {
		t.Error("another checkpoint on the device")
	}
	for _, k := range s.Kernels {
		if !strings.HasPrefix(k.Kernel, cuda.Name) {
			t.Errorf("%s ran %d times on %s", k.Op, k.Calls, k.Kernel)
		}
	}
}

// TestLostDevice: a run whose device is lost ends with that, and the latest checkpoint is whole.
func TestLostDevice(t *testing.T) {
	c := small(text(t))
	c.Aux, c.DataClusters, c.Curriculum, c.CheckpointEvery = false, 0, false, 2
	folder := t.TempDir()
	rt, g := onGPU(t)
	_, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Mapped: true, Progress: func(r Record) {
		if r.Step == 5 {
			g.Fails = backends.ErrLost
		}
	}})
	if !errors.Is(err, backends.ErrLost) {
		t.Errorf("%v", err)
	}
	if n := strings.Count(err.Error(), "\n"); n > 3 {
		t.Errorf("%d lines say so:\n%.500v", n, err)
	}
	saved, err := load(filepath.Join(folder, checkpointFile))
	if err != nil || saved.step != 4 {
		t.Fatalf("%+v: %v", saved, err)
	}
	straight := t.TempDir()
	for dir, resume := range map[string]bool{folder: true, straight: false} {
		if _, _, err := Run(t.Context(), open(t), c, Options{Folder: dir, Resume: resume, Stop: 8}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(weights(t, folder), weights(t, straight)) {
		t.Error("the run does not go on with the same bits")
	}
}

// TestMappedRanks: two processes with a device each come to the checkpoint of two without, and when one of them cannot bring something home both stop at the same step.
func TestMappedRanks(t *testing.T) {
	c := small(text(t))
	c.Aux, c.DataClusters, c.Curriculum, c.Steps, c.CheckpointEvery = false, 0, false, 6, 2
	run := func(folder string, mapped bool, fault func(rank, step int, g *gputest.GPU)) (errs [2]error, steps [2]int) {
		var all sync.WaitGroup
		for _, p := range parallel.Local(2) {
			rt, g := onGPU(t)
			if !mapped {
				rt = open(t)
			}
			r := p.Rank()
			all.Go(func() {
				defer p.Close()
				o := Options{Folder: folder, Mapped: mapped, Peers: p}
				if fault != nil && r == 0 { // which is heard
					o.Progress = func(rec Record) { fault(r, rec.Step, g) }
				}
				var s Summary
				s, _, errs[r] = Run(t.Context(), rt, c, o)
				steps[r] = s.Step
			})
		}
		all.Wait()
		return errs, steps
	}
	a, b := t.TempDir(), t.TempDir()
	for folder, mapped := range map[string]bool{a: false, b: true} {
		if errs, _ := run(folder, mapped, nil); errs[0] != nil || errs[1] != nil {
			t.Fatal(errs)
		}
	}
	if !bytes.Equal(weights(t, a), weights(t, b)) {
		t.Error("another checkpoint on devices")
	}
	for _, step := range []int{3, 4} { // what fails then is the checkpoint, or the sum of the next gradients
		errs, steps := run(t.TempDir(), true, func(rank, at int, g *gputest.GPU) {
			if at == step {
				g.DownloadFails = backends.ErrBackend
			}
		})
		for r, err := range errs {
			var stop *parallel.Stop
			if !errors.Is(err, backends.ErrBackend) && !errors.As(err, &stop) || errors.Is(err, parallel.ErrDiffer) || errors.Is(err, parallel.ErrExchange) {
				t.Errorf("step %d: rank %d says %v", step, r, err)
			}
		}
		if steps[0] != steps[1] {
			t.Errorf("step %d: they stopped at %v", step, steps)
		}
	}
}
