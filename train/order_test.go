// SPDX-License-Identifier: Apache-2.0

package train

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/runtime"
)

// TestSuggestedOrder: layers follow the mean square of their weights as the ramp's first step finds them, times what ternary codes of a Gaussian leave of it.
func TestSuggestedOrder(t *testing.T) {
	c := graded(text(t), bySuggestion)
	tr, err := newTrainer(t.Context(), open(t), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for tr.step < 5 { // the ramp begins with the fifth, whose λ is 0
		if _, err := tr.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if tr.layers != nil {
		t.Fatal("ordered before the ramp")
	}
	// Sizes that are not those of the first weights: a later layer of a kind comes first.
	var sizes []float64
	for _, p := range tr.model.Params() {
		if !p.Ternary {
			continue
		}
		sum := 0.0
		for i := range p.Value {
			p.Value[i] *= 1 - 0.1*float32(len(sizes))
			sum += float64(p.Value[i]) * float64(p.Value[i])
		}
		sizes = append(sizes, sum/float64(len(p.Value)))
	}
	if _, err := tr.one(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, cost := range tr.layers.Cost {
		if want := 0.190174 * sizes[i]; math.Abs(cost-want) > 1e-6*want {
			t.Errorf("layer %d costs %v, want %v", i, cost, want)
		}
		for j, size := range sizes {
			if size < sizes[i] && tr.layers.Place[j] > tr.layers.Place[i] {
				t.Errorf("layer %d has smaller weights than %d and comes later", j, i)
			}
		}
	}
	if tr.layers.Place[7] != 0 || tr.layers.Place[0] != 7 {
		t.Errorf("places are %v", tr.layers.Place)
	}
	kept := tr.layers
	for tr.step < 10 {
		if _, err := tr.one(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if tr.layers != kept {
		t.Error("ordered again")
	}
	if tr.lambdas[7] != 1 || tr.lambdas[0] != 0 {
		t.Errorf("in the middle λ are %v", tr.lambdas)
	}
}

// TestEqualCostsKeepTheirOrder: which of equals comes first is not left to chance.
func TestEqualCostsKeepTheirOrder(t *testing.T) {
	if o := ordered([]float64{2, 1, 2, 1, 0}); !slices.Equal(o.Place, []int{3, 1, 4, 2, 0}) {
		t.Errorf("places are %v", o.Place)
	}
}

// TestSuggestionOfBadWeights: what cannot be ordered ends the run as any other number that is not finite, and the layer is named.
func TestSuggestionOfBadWeights(t *testing.T) {
	tr, err := newTrainer(t.Context(), open(t), graded(text(t), bySuggestion), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.model.Params() {
		if p.Name == "blk.1.ffn_up.weight" {
			p.Value[3] = float32(math.Inf(1))
		}
	}
	if err := tr.rank(t.Context(), 5); !errors.Is(err, ErrDiverged) || !errors.Is(err, runtime.ErrNonFinite) || !strings.Contains(err.Error(), "blk.1.ffn_up.weight") || tr.layers != nil {
		t.Errorf("%v, order %v", err, tr.layers)
	}
}

// TestBadOrderOfACheckpoint: a checkpoint whose order cannot be one is refused.
func TestBadOrderOfACheckpoint(t *testing.T) {
	c, folder := graded(text(t), bySuggestion), t.TempDir()
	if _, _, err := Run(t.Context(), open(t), c, Options{Folder: folder, Stop: 9}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, checkpointFile)
	saved := k(t, folder)
	var run running
	if err := saved.get(stateRun, &run); err != nil {
		t.Fatal(err)
	}
	run.Layers.Place[0] = run.Layers.Place[1]
	if err := errors.Join(saved.put(stateRun, &run), saved.save(path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Run(t.Context(), open(t), c, Options{Folder: folder, Resume: true}); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "a place") {
		t.Errorf("%v", err)
	}
}
