// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"math"
)

// Method is how an optimiser makes steps of gradients.
type Method uint8

// The methods; numbers are those of the C ABI.
const (
	AdamW    Method = 1 // Loshchilov and Hutter, arXiv 1711.05101
	Momentum Method = 2 // SGD with momentum: M ← β₁·M + g, Δ = −rate·(M + decay·θ)
)

// Update is the argument of the op update: the moments of gradients and the step that they make. Values are not checked. All arithmetic is float64, rounded to float32 where it is stored; moments that would be
// subnormal become 0, since they would stay so for ever and slow every step down.
//
// AdamW: M ← β₁M + (1 − β₁)g, V ← β₂V + (1 − β₂)g², Delta = −Rate·(M·Unbias1/(√(V·Unbias2) + Epsilon) + Decay·Value).
type Update struct {
	Method           Method
	Value, Grad      []float32 // equal lengths
	M, V             []float32 // in and out, as many; V with AdamW only
	Delta            []float32 // out, as many
	Rate, Decay      float64
	Beta1, Beta2     float64
	Epsilon          float64
	Unbias1, Unbias2 float64 // 1/(1 − βᵗ) in step t

	ValueAt, GradAt, MAt, VAt, DeltaAt Address // where on the device; 0: in the slice
}

// Check validates the method, lengths, overlap and that constants are finite.
func (a *Update) Check() error {
	n := len(a.Value)
	second := n
	switch a.Method {
	case AdamW:
	case Momentum:
		second = 0
	default:
		return Fail(ErrArgument, OpUpdate, fmt.Sprint(n), "method = %d is not known", a.Method)
	}
	for i, v := range [...]float64{a.Rate, a.Decay, a.Beta1, a.Beta2, a.Epsilon, a.Unbias1, a.Unbias2} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Fail(ErrArgument, OpUpdate, fmt.Sprint(n), "%s = %v", [...]string{"rate", "decay", "beta1", "beta2", "epsilon", "unbias1", "unbias2"}[i], v)
		}
	}
	return checkRows(OpUpdate, n, n, array{"value", a.Value, n, false, ""}, array{"grad", a.Grad, n, false, ""}, array{"m", a.M, n, true, ""}, array{"v", a.V, second, true, ""}, array{"delta", a.Delta, n, true, ""})
}
