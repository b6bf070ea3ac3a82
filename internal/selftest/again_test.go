// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"math"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

// A shape as a call had it is tried as it was: pure Go passes, and what is wrong in it is noticed.
func TestAgain(t *testing.T) {
	wrong := &spoiler{float: func(x []float32) { x[len(x)-1]++ }}
	var again Again // serves all of them
	run := func(b backends.Backend, k backends.Kernel, s dispatch.Shape) (bool, []Failure, error) {
		t.Helper()
		inside := 0
		tried, list, err := again.Run(b, k, s, func() { inside++ })
		if tried != (inside == 1) {
			t.Errorf("%v %v: tried %v, and %d times ahead of it", s.Op, s, tried, inside)
		}
		return tried, list, err
	}
	for _, s := range []dispatch.Shape{
		dispatch.Vector(backends.OpConstrain, 20_001), dispatch.Vector(backends.OpDot, 20_001), dispatch.Vector(backends.OpNorm2, 20_001), dispatch.Update(backends.AdamW, 20_001), dispatch.MatMul(33, 65, 70, 2),
		dispatch.Activations(3*7001, 3), dispatch.Quantize(20_001, quant.Options{Group: 100}), dispatch.Step(20_001, quant.Options{}),
	} {
		k := backends.Kernel{Op: s.Op, Name: "go"}
		if shaped(s) == nil {
			t.Errorf("%v %v: there is no trial", s.Op, s)
		}
		if tried, list, err := run(cpu.Backend{}, k, s); !tried || len(list) != 0 || err != nil {
			t.Errorf("%v %v: %v, %v, %v", s.Op, s, tried, list, err)
		}
		if tried, list, err := run(wrong, k, s); !tried || len(list) != 1 || err != nil || list[0].Op != s.Op.String() {
			t.Errorf("%v %v, wrong: %v, %v, %v", s.Op, s, tried, list, err)
		}
		if tried, list, _ := run(wrong, backends.Kernel{Op: s.Op, Name: "go", Fast: true}, s); tried != (s.Op == backends.OpMatMul) || (len(list) == 1) != tried {
			t.Errorf("%v %v, fast: %v, %v", s.Op, s, tried, list)
		}
	}
	for _, op := range backends.Ops() { // what a file says may be anything
		for _, n := range []int64{0, -1, mostWork + 1, math.MaxInt64, math.MinInt64} {
			if c := shaped(dispatch.Shape{Op: op, N: n, D: n, K: n, M: n, Batch: n, Groups: n, Out: n}); c != nil {
				t.Errorf("%v of %d: %s", op, n, c.shape)
			}
		}
	}
}
