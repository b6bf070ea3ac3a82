// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	gort "runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/data"
	"github.com/setun-compute/setun/train/optim"
)

// text writes a corpus of a few kinds of lines and returns its path.
func text(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	for i := range 600 {
		fmt.Fprintf(&b, "line %d: the quick brown fox jumps over %d lazy dogs\n", i, i*i%97)
		if i%3 == 0 {
			fmt.Fprintf(&b, "\tx[%d] = y[%d] + z\n", i%7, i%11)
		}
	}
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// small is a run of everything, in seconds.
func small(path string) Config {
	c := Default()
	c.Data, c.Vocabulary = path, "char"
	c.Layers, c.Heads, c.Width, c.Context, c.Batch, c.Steps = 1, 2, 32, 16, 4, 24
	c.Warmup, c.Start, c.Ramp, c.EvalEvery, c.EvalBatches, c.CheckpointEvery = 2, 0.1, 0.2, 8, 2, 5
	c.Int8, c.LearningRate = true, 2e-3
	c.Radius, c.Clusters, c.Aux, c.AuxEvery, c.DataClusters, c.Curriculum, c.Accumulate = 0.5, 3, true, 2, 2, true, 2
	return c
}

func open(t testing.TB, options ...runtime.Option) *runtime.Runtime {
	t.Helper()
	rt, err := runtime.Open(append([]runtime.Option{runtime.WithProfile(""), runtime.WithoutSaving()}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

func weights(t testing.TB, folder string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestResumeIsTheSame: a run that was stopped and went on, twice, ends in the same file, bit for bit: weights, moments, clusters, the auxiliary network and the summary's averages; and its metrics have each step once.
func TestResumeIsTheSame(t *testing.T) {
	c := small(text(t))
	straight, parts := t.TempDir(), t.TempDir()
	if _, _, err := Run(t.Context(), open(t), c, Options{Folder: straight}); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []int{7, 13, 0} {
		if _, _, err := Run(t.Context(), open(t), c, Options{Folder: parts, Resume: true, Stop: stop}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(weights(t, straight), weights(t, parts)) {
		t.Error("the checkpoints differ")
	}
	all, err := readRecords(filepath.Join(parts, metricsFile), c.Steps)
	if err != nil || len(all) != c.Steps {
		t.Fatalf("%d records, %v; want %d", len(all), err, c.Steps)
	}
	for i, r := range all {
		if r.Step != i+1 {
			t.Errorf("record %d is of step %d", i, r.Step)
		}
	}
	if page, err := os.ReadFile(filepath.Join(parts, reportFile)); err != nil || !bytes.Contains(page, []byte("<svg")) || bytes.Contains(page, []byte("NaN")) {
		t.Errorf("report: %v", err)
	}
}

// TestSameBitsOnAnyBackend: pure Go and the native kernels, on one processor and on all.
func TestSameBitsOnAnyBackend(t *testing.T) {
	c := small(text(t))
	c.Steps = 6
	var first []byte
	for _, processors := range []int{1, gort.NumCPU()} {
		before := gort.GOMAXPROCS(processors)
		for _, options := range [][]runtime.Option{{runtime.WithoutNative()}, {}} {
			folder := t.TempDir()
			if _, _, err := Run(t.Context(), open(t, options...), c, Options{Folder: folder}); err != nil {
				t.Fatal(err)
			}
			if got := weights(t, folder); first == nil {
				first = got
			} else if !bytes.Equal(first, got) {
				t.Errorf("%d processors, %d options: other bits", processors, len(options))
			}
		}
		gort.GOMAXPROCS(before)
	}
}

func TestItLearns(t *testing.T) {
	c := small(text(t))
	c.Steps, c.Warmup, c.EvalEvery, c.Curriculum, c.DataClusters = 150, 10, 150, false, 0
	s, records, err := Run(t.Context(), open(t), c, Options{Sample: 20})
	if err != nil {
		t.Fatal(err)
	}
	if first := records[0].Loss; !(s.Validation < 0.75*first) || s.Ternary == 0 || len(s.Sample) == 0 {
		t.Errorf("from %.3f to %.3f, %d ternary, sample %q", first, s.Validation, s.Ternary, s.Sample)
	}
	for _, r := range records {
		if r.Radius > 0 && r.Moved > r.Radius {
			t.Errorf("step %d moved by %v, radius %v", r.Step, r.Moved, r.Radius)
		}
	}
}

func TestWhatARunRefuses(t *testing.T) {
	path, rt := text(t), open(t)
	c := small(path)
	c.Steps, c.Aux = 4, false
	folder := t.TempDir()
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder}); err != nil {
		t.Fatal(err)
	}
	other := c
	other.Width, other.LearningRate = 64, 5e-3
	if _, _, err := Run(t.Context(), rt, other, Options{Folder: folder, Resume: true}); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "width: 64, 32") || !strings.Contains(err.Error(), "learning_rate: 0.005, 0.002") {
		t.Errorf("another configuration: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("another text, as long as you like. ", 3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Resume: true}); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another text: %v", err)
	}
	damaged := weights(t, folder)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(filepath.Join(folder, checkpointFile), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Resume: true}); err == nil {
		t.Error("a damaged checkpoint was used")
	}
	for name, content := range map[string]string{"empty": "", "tiny": "ab", "shorter than the context": strings.Repeat("x", 100)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Run(t.Context(), rt, c, Options{}); !errors.Is(err, data.ErrEmpty) && !errors.Is(err, data.ErrShort) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Width = -1
	if _, _, err := Run(t.Context(), rt, c, Options{}); !errors.Is(err, ErrConfig) {
		t.Errorf("width −1: %v", err)
	}
}

// TestDivergence: weights that cannot be used stop the run with step and parameter, and the checkpoint is of the step before.
func TestDivergence(t *testing.T) {
	c := small(text(t))
	c.Aux, c.CheckpointEvery = false, 0
	tr, err := newTrainer(t.Context(), open(t), c, Options{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := tr.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tr.model.Params()[0].Value[5] = float32(math.Inf(1))
	for i := range tr.model.Params()[0].Value {
		tr.model.Params()[0].Value[i] = float32(math.Inf(1))
	}
	_, err = tr.run(t.Context(), metrics{})
	if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "step 4") {
		t.Fatalf("%v", err)
	}
}

// TestHalfAStepIsNotSaved: when moments and values have changed and the step is not complete, the checkpoint on disk stays.
func TestHalfAStepIsNotSaved(t *testing.T) {
	c := small(text(t))
	c.Radius, c.Clusters, c.Aux = 0, 0, false
	folder := t.TempDir()
	tr, err := newTrainer(t.Context(), open(t), c, Options{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.one(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tr.join(nil); err != nil { // it has a folder
		t.Fatal(err)
	}
	if err := tr.save(); err != nil {
		t.Fatal(err)
	}
	before := weights(t, folder)
	tr.plan.Peak, tr.plan.Final, tr.plan.Warmup = 1e300, 1e300, 0
	if _, err := tr.run(t.Context(), metrics{}); !errors.Is(err, ErrDiverged) || !errors.Is(err, optim.ErrUnfinished) {
		t.Fatalf("%v", err)
	}
	if !bytes.Equal(before, weights(t, folder)) {
		t.Error("half a step was saved")
	}
}

// TestSavingMayFail: a full disk, or a folder that is gone, is a warning while training goes on.
func TestSavingMayFail(t *testing.T) {
	c := small(text(t))
	c.Aux = false
	folder := filepath.Join(t.TempDir(), "run")
	var warnings []error
	_, records, err := Run(t.Context(), open(t), c, Options{Folder: folder, Warn: func(err error) { warnings = append(warnings, err) }, Progress: func(r Record) {
		if r.Step == 1 { // a file in place of the folder: nothing can be written there
			os.RemoveAll(folder)
			if err := os.WriteFile(folder, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}})
	if len(records) != c.Steps || len(warnings) < 3 || err == nil {
		t.Errorf("%d steps, %d warnings, %v; want all steps, a warning for each checkpoint, and an error for the last", len(records), len(warnings), err)
	}
}

// impatient is a context that ends when it has been looked at so many times.
type impatient struct {
	context.Context
	looks atomic.Int64
}

func (i *impatient) Err() error {
	if i.looks.Add(-1) < 0 {
		return context.Canceled
	}
	return i.Context.Err()
}

// TestInterruptedAnywhere: wherever in a step a run is interrupted, one that goes on from its checkpoint ends in the same file.
func TestInterruptedAnywhere(t *testing.T) {
	c := small(text(t))
	c.Steps, c.Compress, c.EvalEvery = 9, compressTernary, 3
	straight, rt := t.TempDir(), open(t)
	all := &impatient{Context: context.Background()}
	all.looks.Store(1 << 40)
	if _, _, err := Run(all, rt, c, Options{Folder: straight}); err != nil {
		t.Fatal(err)
	}
	looks := 1<<40 - all.looks.Load()
	if looks < 100 {
		t.Fatalf("the run looked at its context %d times: the test shows nothing", looks)
	}
	for at := looks / 20; at < looks; at += looks / 10 {
		folder, ctx := t.TempDir(), &impatient{Context: context.Background()}
		ctx.looks.Store(at)
		if _, _, err := Run(ctx, rt, c, Options{Folder: folder}); !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted at look %d: %v", at, err)
		}
		if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Resume: true}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(weights(t, straight), weights(t, folder)) {
			t.Errorf("interrupted at look %d of %d: another checkpoint", at, looks)
		}
	}
}

func TestInterruption(t *testing.T) {
	c := small(text(t))
	folder := t.TempDir()
	earlier := filepath.Join(folder, modelFile)
	if err := os.WriteFile(earlier, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, records, err := Run(ctx, open(t), c, Options{Folder: folder, Progress: func(r Record) {
		if r.Step == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(records) != 3 {
		t.Fatalf("%d steps, %v", len(records), err)
	}
	if k, err := load(filepath.Join(folder, checkpointFile)); err != nil || k.step != 3 {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(earlier); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the model of an earlier run is still there: %v", err)
	}
}

// TestChartsOfFewSteps: runs that end early have a report too, and one value twice is no range.
func TestChartsOfFewSteps(t *testing.T) {
	for n := range 3 {
		records := make([]Record, n)
		for i := range records {
			records[i] = Record{Step: i + 1, Loss: 3.8106684538995097, Rate: 1e-3, TokensPerSecond: 1e5, Norm: 1e-30, Moved: math.Nextafter(1e20, float64(i))}
		}
		var page bytes.Buffer
		if err := WriteReport(&page, Summary{}, records); err != nil || page.Len() > 1<<16 {
			t.Errorf("%d steps: a page of %d bytes, %v", n, page.Len(), err)
		}
		if n > 0 && !strings.Contains(page.String(), "<svg") {
			t.Errorf("%d steps: no picture", n)
		}
	}
}
