// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"fmt"
	"math"

	"github.com/setun-compute/setun/internal/canon"
	setun "github.com/setun-compute/setun/runtime"
)

// inward makes a radius a little shorter than it was asked for, so that sums of squares stay below w² in real arithmetic: norms and shares are sums in float64 whose relative error
// is below 133·2^-53 for each factor of 4096 in their length (docs/numerics.md, Sums), a sixteenth of what 2^-40 leaves for the longest.
const inward = 1 - 0x1p-40

// Clip scales the gradients of all tensors by one factor, so that their norm, all taken together, is at most limit in real arithmetic. Nothing is written when it is within. It
// returns the norm before. limit 0 or infinite: only the norm.
//
// A torch-like clip multiplies by limit/(norm + 1e-6); here the factor is limit/norm, short by 2^-23, as Runtime.Constrain has it.
//
// Errors: ErrNonFinite naming tensor and index; no gradient is touched then.
func Clip(rt *setun.Runtime, tensors []Tensor, limit float64) (norm float64, err error) {
	norms := make([]float64, len(tensors))
	return clip(rt, tensors, norms, limit)
}

// clip is Clip with room for the tensors' norms, which are those before.
func clip(rt *setun.Runtime, tensors []Tensor, norms []float64, limit float64) (float64, error) {
	if !(limit >= 0) {
		return 0, fmt.Errorf("optim: clip at %v: %w", limit, setun.ErrArgument)
	}
	for i := range tensors {
		n, err := rt.Norm2(tensors[i].Grad)
		if err != nil {
			return 0, fmt.Errorf("optim: gradient of %s: %w", tensors[i].Name, err)
		}
		norms[i] = n
	}
	norm := root(norms)
	if limit == 0 || norm <= float64(limit*inward) {
		return norm, nil
	}
	for i := range tensors {
		// Each gets the same factor; Σ (limit·norms/norm)² = limit².
		w := float64(float64(limit*inward) * (norms[i] / norm))
		if _, _, err := rt.Constrain(tensors[i].Grad, tensors[i].Grad, w); err != nil {
			return norm, fmt.Errorf("optim: gradient of %s: %w", tensors[i].Name, err)
		}
	}
	return norm, nil
}

// root returns √Σ v². Squares of norms of float32 values neither overflow nor underflow.
func root(v []float64) float64 {
	var t canon.Tree
	var part [canon.Chunk / 32]float64
	for len(v) > 0 {
		n := min(len(v), len(part))
		for i, x := range v[:n] {
			part[i] = float64(x * x)
		}
		t.Add(canon.ChunkSum(part[:n]))
		v = v[n:]
	}
	return math.Sqrt(t.Sum())
}
