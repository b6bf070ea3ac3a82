// SPDX-License-Identifier: Apache-2.0

package backends

import (
	"fmt"
	"sync/atomic"

	"github.com/setun-compute/setun/quant"
)

// Step is the argument of the op step: Dst has been resized for Params by quant.Tensor.Resize.
type Step struct {
	Params, Delta []float32 // equal lengths, Rows*Cols values; no overlap. Params is read and written
	ParamsAt      Address
	DeltaAt       Address
	Radius        float64
	Rule          quant.Rule
	Seed          uint64 // of quant.Stochastic
	Dst           *quant.Tensor
	Norm          float64       // out: ‖Delta‖₂
	Cancel        *atomic.Int32 // looked at until the norm is known
}

// Check validates what CheckQuantize does not: lengths, overlap and the radius.
func (a *Step) Check() error {
	fail := func(sentinel error, detail string, args ...any) error {
		return Fail(sentinel, OpStep, fmt.Sprint(len(a.Params)), detail, args...)
	}
	switch {
	case len(a.Delta) != len(a.Params):
		return fail(ErrShape, "delta has %d values, params has %d", len(a.Delta), len(a.Params))
	case len(a.Params) == 0:
		return fail(ErrArgument, "params is empty")
	case !(a.Radius >= 0): // also NaN
		return fail(ErrArgument, "radius = %v is negative or not a number", a.Radius)
	case overlap(a.Params, a.Delta):
		return fail(ErrAlias, "delta overlaps params")
	}
	return nil
}

// NonFinite is the error for a value that is not finite: of Delta, or of the new Params when index begins behind Delta. It is nil when that value is finite.
func (a *Step) NonFinite(index int64) error {
	name, v, i := "delta", a.Delta, index
	if n := int64(len(v)); i >= n {
		name, v, i = "params", a.Params, i-n
	}
	if i < 0 || i >= int64(len(v)) || v[i]-v[i] == 0 {
		return nil
	}
	return Fail(ErrNonFinite, OpStep, fmt.Sprint(len(v)), "%s[%d] = %v", name, i, v[i])
}
