// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/optim"
)

// each calls f for all ranks at once, each with a goroutine of its own, and returns their errors.
func each(n int, f func(p Peers) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for r, p := range Local(n) {
		all.Go(func() {
			errs[r] = f(p)
			p.Close()
		})
	}
	all.Wait()
	return errs
}

func allFine(t *testing.T, errs []error) {
	t.Helper()
	for r, err := range errs {
		if err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// exchanges checks both operations, as a program that mpirun starts does it too.
func exchanges(p Peers) error {
	n := p.Size()
	for _, length := range []int{0, 1, 7, 4096} {
		sent := p.Sent()
		mine, all := bytes.Repeat([]byte{byte(p.Rank() + 1)}, length), make([]byte, n*length)
		if err := p.Gather(all, mine); err != nil {
			return err
		}
		send, recv := make([]byte, n*length), make([]byte, n*length)
		for i := range send {
			send[i] = byte(10*p.Rank() + i/length)
		}
		if err := p.Exchange(recv, send); err != nil {
			return err
		}
		for i := range all {
			if r := i / length; all[i] != byte(r+1) || recv[i] != byte(10*r+p.Rank()) {
				return fmt.Errorf("byte %d of %d: %d gathered, %d exchanged", i, length, all[i], recv[i])
			}
		}
		if got, want := p.Sent()-sent, int64(2*(n-1)*length); got != want {
			return fmt.Errorf("%d bytes sent, want %d", got, want)
		}
	}
	if err := p.Gather(make([]byte, 3), make([]byte, 2)); !errors.Is(err, ErrArgument) {
		return fmt.Errorf("3 bytes for blocks of 2: %v", err)
	}
	if err := p.Exchange(make([]byte, 3*n), make([]byte, 2*n)); !errors.Is(err, ErrArgument) {
		return fmt.Errorf("3 bytes for 2: %v", err)
	}
	return nil
}

func TestExchanges(t *testing.T) {
	if err := exchanges(Alone{}); err != nil {
		t.Error(err)
	}
	for n := range 5 {
		allFine(t, each(n+1, exchanges))
	}
}

// TestLeaving: one who leaves stops the others instead of letting them wait.
func TestLeaving(t *testing.T) {
	errs := each(3, func(p Peers) error {
		if p.Rank() == 1 {
			return nil
		}
		return p.Gather(make([]byte, 3), make([]byte, 1))
	})
	if !errors.Is(errs[0], ErrExchange) || errs[1] != nil || !errors.Is(errs[2], ErrExchange) {
		t.Errorf("%v", errs)
	}
}

var errKnown = errors.New("known")

func TestForum(t *testing.T) {
	local := fmt.Errorf("of rank 2: %w", errKnown)
	errs := each(4, func(p Peers) error {
		f := NewForum(p, context.Canceled, errKnown)
		a, b := float64(p.Rank()), 2.5
		if err := f.Mean(nil, &a, &b); err != nil || a != 1.5 || b != 2.5 {
			return fmt.Errorf("mean %v, %v: %v", a, b, err)
		}
		if v, err := f.All(nil, []float64{a, float64(p.Rank())}, nil); err != nil || !slices.Equal(v, []float64{1.5, 0, 1.5, 1, 1.5, 2, 1.5, 3}) {
			return fmt.Errorf("%v, %v", v, err)
		}
		if err := f.Same("a", 7, nil); err != nil {
			return err
		}
		var stop *Stop
		if err := f.Same("the weight", uint64(p.Rank()/3), nil); !errors.As(err, &stop) || stop.Rank != 3 || !errors.Is(err, ErrDiffer) || !strings.Contains(err.Error(), "the weight") {
			return fmt.Errorf("rank 3 has another number: %v", err)
		}
		var mine error
		switch p.Rank() {
		case 2:
			mine = local
		case 3:
			mine = errors.New("a later one")
		}
		return f.Agree(mine)
	})
	for r, err := range errs {
		var stop *Stop
		if !errors.As(err, &stop) || stop.Rank != 2 || !errors.Is(err, errKnown) || errors.Is(err, context.Canceled) || err.Error() != "rank 2: of rank 2: known" || errors.Is(err, local) != (r == 2) {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	long := strings.Repeat("ж", maxReport)
	for r, err := range each(2, func(p Peers) error {
		if p.Rank() == 0 {
			return NewForum(p).Agree(nil)
		}
		return NewForum(p).Agree(errors.New(long))
	}) {
		if err == nil || !strings.HasPrefix(err.Error(), "rank 1: жж") || r == 0 && len(err.Error()) > maxReport+20 {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if err := NewForum(Alone{}).Agree(local); err != local {
		t.Errorf("alone: %v", err)
	}
}

// tensors are of shapes that leave short blocks, with gradients that depend on the rank.
func tensors(rank int, spread float64) (list []optim.Tensor) {
	rng := rand.New(rand.NewPCG(1, uint64(rank)))
	for i, s := range [][2]int{{1, 7}, {3, 331}, {40, 16}, {1, 1}} {
		n := s[0] * s[1]
		t := optim.Tensor{Name: fmt.Sprint(i), Rows: s[0], Cols: s[1], Value: make([]float32, n), Grad: make([]float32, n)}
		for j := range t.Grad {
			t.Grad[j] = float32(rng.NormFloat64() * math.Pow(2, spread*rng.NormFloat64()))
		}
		list = append(list, t)
	}
	return list
}

// flat are all gradients, one after another.
func flat(list []optim.Tensor) (g []float32) {
	for _, t := range list {
		g = append(g, t.Grad...)
	}
	return g
}

// TestFloatsAddInRankOrder compares with the definition, with windows that cut tensors anywhere.
func TestFloatsAddInRankOrder(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		for _, window := range []int{maxWindow, 64, n} {
			sums := make([]float64, count(tensors(0, 0)))
			for r := range n {
				for i, g := range flat(tensors(r, 8)) {
					sums[i] += float64(g)
				}
			}
			want := make([]float32, len(sums))
			for i, v := range sums {
				want[i] = float32(v)
			}
			allFine(t, each(n, func(p Peers) error {
				mine := tensors(p.Rank(), 8)
				f := NewFloats(p, mine)
				f.window = max(n, min(f.window, window/n*n))
				if err := f.Add(0); err != nil {
					return err
				}
				if values := count(mine); window == maxWindow && n > 1 && p.Sent() != FloatBytes(values, n) {
					return fmt.Errorf("%d bytes for %d values, want %d", p.Sent(), values, FloatBytes(values, n))
				}
				if !slices.Equal(flat(mine), want) {
					return fmt.Errorf("%d ranks, window %d: other sums", n, window)
				}
				return nil
			}))
		}
	}
}

func open(t testing.TB) *runtime.Runtime {
	t.Helper()
	rt, err := runtime.Open(runtime.WithProfile(""), runtime.WithoutSaving())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// TestCodesAddWhatIsDecoded: sums are of what each rank's own compressor leaves, in rank order, over steps, and a state goes on to the same.
func TestCodesAddWhatIsDecoded(t *testing.T) {
	const steps = 3
	for _, n := range []int{1, 2, 3} {
		for _, group := range []int{0, quant.PerRow} {
			var want [steps][]float32
			compressors, of := make([]*optim.Compressor, n), make([][]optim.Tensor, n)
			for r := range n {
				var err error
				of[r] = tensors(r, 3)
				if compressors[r], err = optim.NewCompressor(open(t), of[r], optim.CompressOptions{Coding: optim.Feedback, Group: group}); err != nil {
					t.Fatal(err)
				}
			}
			for step := range steps {
				for r := range n {
					for i, x := range tensors(r+10*step, 3) {
						copy(of[r][i].Grad, x.Grad)
					}
					if _, err := compressors[r].Compress(uint64(step)); err != nil {
						t.Fatal(err)
					}
				}
				for i := range of[0] {
					for j := range of[0][i].Grad {
						sum := 0.0
						for r := range n {
							sum += float64(of[r][i].Grad[j])
						}
						want[step] = append(want[step], float32(sum))
					}
				}
			}
			allFine(t, each(n, func(p Peers) error {
				mine := tensors(p.Rank(), 3)
				var state *optim.State
				for step := range steps {
					c, err := NewCodes(open(t), NewForum(p), mine, group) // another one each time, as after a resume
					if err != nil {
						return err
					}
					if state != nil {
						err = c.Load(state)
					}
					for i, x := range tensors(p.Rank()+10*step, 3) {
						copy(mine[i].Grad, x.Grad)
					}
					if err = errors.Join(err, c.Add(uint64(step))); err != nil {
						return err
					}
					state = c.State(nil)
					if !slices.Equal(flat(mine), want[step]) {
						return fmt.Errorf("%d ranks, group %d, step %d: other sums", n, group, step)
					}
				}
				return nil
			}))
		}
	}
}

// TestCodesStopTogether: a gradient that is not finite, on one rank.
func TestCodesStopTogether(t *testing.T) {
	for r, err := range each(2, func(p Peers) error {
		mine := tensors(0, 1)
		if p.Rank() == 1 {
			mine[1].Grad[4] = float32(math.NaN())
		}
		c, err := NewCodes(open(t), NewForum(p, runtime.ErrNonFinite), mine, 0)
		return errors.Join(err, c.Add(0))
	}) {
		var stop *Stop
		if !errors.As(err, &stop) || stop.Rank != 1 || !errors.Is(err, runtime.ErrNonFinite) {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if _, err := NewCodes(open(t), NewForum(Alone{}), tensors(0, 1), 5); !errors.Is(err, ErrArgument) {
		t.Errorf("groups of 5: %v", err)
	}
}

func TestLaunched(t *testing.T) {
	for _, c := range []struct {
		environment map[string]string
		by          string
		size        int
		wrong       bool
	}{
		{nil, "", 0, false},
		{map[string]string{"OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "0"}, "OMPI_COMM_WORLD_RANK", 4, false},
		{map[string]string{"OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"}, "", 0, false},
		{map[string]string{"PMI_SIZE": "3", "PMI_RANK": "0"}, "PMI_RANK", 3, false},
		{map[string]string{"PMI_RANK": "0"}, "PMI_RANK", 0, false},
		{map[string]string{"PMIX_RANK": "0"}, "PMIX_RANK", 0, false},
		{map[string]string{"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "6"}, "PMIX_RANK", 6, false},
		{map[string]string{"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1"}, "", 0, false},
		{map[string]string{"SLURM_STEP_NUM_TASKS": "6"}, "", 0, false},
		{map[string]string{"PMI_SIZE": "many"}, "", 0, true},
		{map[string]string{"OMPI_COMM_WORLD_SIZE": "0"}, "", 0, true},
	} {
		l, err := launched(func(name string) string { return c.environment[name] })
		if errors.Is(err, ErrWorld) != c.wrong || (l == nil) != (c.by == "") || l != nil && (l.by != c.by || l.size != c.size) {
			t.Errorf("%v: %+v, %v", c.environment, l, err)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, v := range []string{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", Variable} {
		t.Setenv(v, "")
	}
	if p, err := Open(); err != nil || p != (Alone{}) {
		t.Errorf("started alone: %v, %v", p, err)
	}
	t.Setenv("OMPI_COMM_WORLD_SIZE", "2")
	t.Setenv(Variable, "none")
	if p, err := Open(); err != nil || p != (Alone{}) {
		t.Errorf("none: %v, %v", p, err)
	}
	for _, path := range []string{"libmpi.so", filepath.Join(t.TempDir(), "libmpi.so")} {
		t.Setenv(Variable, path)
		if p, err := Open(); !errors.Is(err, ErrLibrary) || p != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, p, err)
		}
	}
}
