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
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/parallel"
)

// ranks runs f as each of n ranks, with a runtime each, and returns their errors.
func ranks(t *testing.T, n int, f func(rt *runtime.Runtime, p parallel.Peers) error) []error {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	for r, p := range parallel.Local(n) {
		rt := open(t)
		all.Go(func() {
			errs[r] = f(rt, p)
			p.Close()
		})
	}
	all.Wait()
	return errs
}

// runRanks is Run as n ranks of one folder.
func runRanks(t *testing.T, n int, c Config, o Options) {
	t.Helper()
	for r, err := range ranks(t, n, func(rt *runtime.Runtime, p parallel.Peers) error {
		o := o
		o.Peers = p
		_, _, err := Run(t.Context(), rt, c, o)
		return err
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
}

// manyTerms is a run in which a gradient is a sum of known terms: a micro-batch is one token, so that a weight's gradient has one term from each.
func manyTerms(path string) Config {
	c := small(path)
	c.Context, c.Batch, c.Aux, c.DataClusters, c.Curriculum = 1, 1, false, 0, false
	return c
}

// TestTwoRanksAreOneWithTwice: two ranks add the same terms as one process with twice the micro-batches, in another order. With n terms t of a gradient, each rounded to float32 (1 + u), a chain of additions is within γ_n·Σ|t| of their sum, and two chains of half the
// terms and the addition of both within γ_{n/2+1}·Σ|t|.
func TestTwoRanksAreOneWithTwice(t *testing.T) {
	const each = 8
	c := manyTerms(text(t))
	gradients := func(tr *trainer) (g []float32) {
		for _, p := range tr.model.Params() {
			g = append(g, p.Grad...)
		}
		return g
	}
	one := c
	one.Accumulate = 2 * each
	tr, err := newTrainer(t.Context(), open(t), one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, loss, _, err := tr.gradients(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := gradients(tr)
	size := make([]float64, len(want)) // Σ|t|
	for micro := range 2 * each {
		tr.model.ZeroGrad()
		tr.text.batch(0, micro, tr.tokens, tr.targets)
		if _, err := tr.model.Backward(t.Context(), tr.tokens, tr.targets, 1, 1, 1./(2*each)); err != nil {
			t.Fatal(err)
		}
		for i, g := range gradients(tr) {
			size[i] += math.Abs(float64(g))
		}
	}
	c.Accumulate = each
	var got [2][]float32
	for r, err := range ranks(t, 2, func(rt *runtime.Runtime, p parallel.Peers) error {
		tr, err := newTrainer(t.Context(), rt, c, Options{Peers: p})
		if err != nil {
			return err
		}
		_, mine, _, err := tr.gradients(t.Context())
		if err = errors.Join(tr.forum.Mean(err, &mine), tr.add()); err != nil {
			return err
		}
		got[p.Rank()] = gradients(tr)
		if math.Abs(mine-loss) > 2*each*0x1p-53*loss {
			return fmt.Errorf("loss %v, want %v", mine, loss)
		}
		return nil
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
	if !slices.Equal(got[0], got[1]) {
		t.Error("the ranks have other gradients")
	}
	gamma := func(n float64) float64 { return n * 0x1p-24 / (1 - n*0x1p-24) }
	differ := 0
	for i, w := range want {
		bound := (gamma(2*each) + gamma(each+1)) * size[i] * (1 + 0x1p-23)
		if d := math.Abs(float64(got[0][i]) - float64(w)); d > bound {
			t.Fatalf("gradient %d: %v of two ranks, %v of one: %v apart, bound %v", i, got[0][i], w, d, bound)
		} else if d > 0 {
			differ++
		}
	}
	t.Logf("%d of %d gradients differ in rounding", differ, len(want))
}

// TestRanksRepeat: a run has the same bits each time, and when it is stopped and goes on; the checksum that ranks compare before each checkpoint says that they have the same.
func TestRanksRepeat(t *testing.T) {
	c := small(text(t))
	c.Steps, c.CheckpointEvery = 12, 4
	for _, compress := range []string{"", compressRows} {
		c.Compress = compress
		straight, parts := t.TempDir(), t.TempDir()
		runRanks(t, 2, c, Options{Folder: straight})
		for _, stop := range []int{3, 8, 0} {
			runRanks(t, 2, c, Options{Folder: parts, Resume: true, Stop: stop})
		}
		if !bytes.Equal(weights(t, straight), weights(t, parts)) {
			t.Errorf("%q: the checkpoints differ", compress)
		}
		if all, err := readRecords(filepath.Join(parts, metricsFile), c.Steps); err != nil || len(all) != c.Steps || all[5].WireBytes == 0 || all[5].Tokens != 6*2*2*4*16 {
			t.Errorf("%q: %d records, %v", compress, len(all), err)
		}
		if _, _, err := Run(t.Context(), open(t), c, Options{Folder: parts, Resume: true}); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "ranks: 1, 2") {
			t.Errorf("%q: one goes on from two: %v", compress, err)
		}
	}
}

// TestEvaluationIsShared: the batches that ranks share are those of one process, and so is their mean, to the bit.
func TestEvaluationIsShared(t *testing.T) {
	c := small(text(t))
	c.Aux, c.EvalBatches = false, 5
	var want float64
	for n := 1; n <= 3; n++ {
		for r, err := range ranks(t, n, func(rt *runtime.Runtime, p parallel.Peers) error {
			tr, err := newTrainer(t.Context(), rt, c, Options{Peers: p})
			if err != nil {
				return err
			}
			v, err := tr.evaluate(t.Context())
			if n == 1 {
				want = v
			}
			if v != want {
				return fmt.Errorf("%v, want %v", v, want)
			}
			return err
		}) {
			if err != nil {
				t.Errorf("rank %d of %d: %v", r, n, err)
			}
		}
	}
}

// TestOneStopsAll: whatever ends a run on one rank ends it on all, with the same reason.
func TestOneStopsAll(t *testing.T) {
	path := text(t)
	c := small(path)
	c.Steps, c.Aux = 8, false
	spoil := func(v float32) func(*trainer, context.CancelFunc) {
		return func(tr *trainer, _ context.CancelFunc) {
			if tr.step == 3 && tr.forum.Rank() == 1 {
				tr.model.Params()[0].Value[5] = v
				for i := range tr.model.Params()[0].Value[:64] {
					tr.model.Params()[0].Value[i] = v
				}
			}
		}
	}
	for _, x := range []struct {
		name   string
		before func(*trainer, context.CancelFunc)
		kind   error
	}{
		{"interrupted", func(tr *trainer, cancel context.CancelFunc) {
			if tr.step == 3 && tr.forum.Rank() == 1 {
				cancel()
			}
		}, context.Canceled},
		{"not finite", spoil(float32(math.Inf(1))), ErrDiverged}, // with other parameters than those of rank 0, so that nothing is saved
		{"another parameter", spoil(0.125), parallel.ErrDiffer},
	} {
		for _, compress := range []string{"", compressRows} {
			c.Compress = compress
			folder := t.TempDir()
			for r, err := range ranks(t, 2, func(rt *runtime.Runtime, p parallel.Peers) error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tr, err := newTrainer(ctx, rt, c, Options{Folder: folder, Peers: p})
				if err := together(tr.forum, tr, err); err != nil {
					return err
				}
				for tr.step < c.Steps {
					x.before(tr, cancel)
					tr.opts.Stop = tr.step + 1
					if _, err := tr.run(ctx, metrics{}); err != nil {
						return err
					}
				}
				return nil
			}) {
				var stop *parallel.Stop
				if !errors.As(err, &stop) || stop.Rank != 1 || !errors.Is(err, x.kind) {
					t.Errorf("%s, %q: rank %d: %v", x.name, compress, r, err)
				}
			}
			if k, err := load(filepath.Join(folder, checkpointFile)); err != nil || k.step != 3 {
				t.Errorf("%s, %q: %v", x.name, compress, err)
			}
		}
	}
}

// TestRanksMustAgree: what a run cannot begin with.
func TestRanksMustAgree(t *testing.T) {
	path := text(t)
	c := small(path)
	c.Steps = 4
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(other, []byte(strings.Repeat("another text, as long as you like. ", 3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name   string
		change func(rank int, c *Config, o *Options)
		kind   error
		says   string
	}{
		{"seeds", func(rank int, c *Config, _ *Options) { c.Seed = uint64(rank) }, parallel.ErrDiffer, "configuration"},
		{"stops", func(rank int, _ *Config, o *Options) { o.Stop = 2 + rank }, parallel.ErrDiffer, "configuration"},
		{"files", func(rank int, c *Config, _ *Options) {
			if rank == 1 {
				c.Data = "/nowhere"
			}
		}, fs.ErrNotExist, "rank 1: data: open /nowhere"},
		{"number", func(_ int, c *Config, _ *Options) { c.Ranks = 3 }, ErrConfig, "ranks = 3, and 2 run"},
		{"folder", func(_ int, _ *Config, o *Options) { o.Folder = file }, nil, file},
	} {
		for r, err := range ranks(t, 2, func(rt *runtime.Runtime, p parallel.Peers) error {
			c, o := c, Options{Peers: p}
			x.change(p.Rank(), &c, &o)
			_, _, err := Run(t.Context(), rt, c, o)
			return err
		}) {
			var stop *parallel.Stop
			if !errors.As(err, &stop) || r == stop.Rank && x.kind != nil && !errors.Is(err, x.kind) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%s: rank %d: %v", x.name, r, err)
			}
		}
	}
}

// TestLossOfRanks: after 200 steps two ranks are where one process with twice the micro-batches is, as near as seeds are to each other; ternary gradients have come at least 95 % of the way.
func TestLossOfRanks(t *testing.T) {
	if raceEnabled {
		t.Skip("a minute with the race detector, which the other tests show as much to")
	}
	const seeds = 3
	base := small(text(t))
	base.Layers, base.Steps, base.EvalEvery, base.CheckpointEvery, base.EvalBatches, base.Warmup = 2, 200, 200, 0, 20, 20
	base.Aux, base.Int8, base.Radius, base.Clusters, base.DataClusters, base.Curriculum, base.Accumulate, base.Start, base.Ramp = false, false, 0, 0, 0, false, 1, 0, 0
	begin := 0.0
	loss := func(n int, compress string) (list []float64, mean float64) {
		c := base
		c.Compress, c.Accumulate = compress, 2/n
		for seed := range seeds {
			c.Seed = uint64(seed + 1)
			for r, err := range ranks(t, n, func(rt *runtime.Runtime, p parallel.Peers) error {
				s, records, err := Run(t.Context(), rt, c, Options{Peers: p})
				if err == nil && p.Rank() == 0 {
					list, mean, begin = append(list, s.Validation), mean+s.Validation/seeds, records[0].Loss
				}
				return err
			}) {
				if err != nil {
					t.Fatalf("rank %d of %d: %v", r, n, err)
				}
			}
		}
		return list, mean
	}
	one, oneMean := loss(1, "")
	two, twoMean := loss(2, "")
	codes, codesMean := loss(2, compressRows)
	t.Logf("one process %.3f, two %.3f, two with ternary gradients %.3f", one, two, codes)
	if spread := slices.Max(one) - slices.Min(one); !(math.Abs(twoMean-oneMean) < spread) {
		t.Errorf("mean loss %.4f of two ranks, %.4f of one, whose seeds are %.4f apart", twoMean, oneMean, spread)
	}
	if lost := codesMean - twoMean; !(lost < 0.05*(begin-twoMean)) {
		t.Errorf("mean loss %.4f with ternary gradients, %.4f with float32 ones, from %.4f", codesMean, twoMean, begin)
	}
}
