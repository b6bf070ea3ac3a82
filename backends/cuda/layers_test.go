// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// field is an operand of a call, and where its address belongs.
type field struct {
	values *[]float32
	at     *backends.Address
}

// layerCall is a call with operands that may be in slices or on the device.
type layerCall struct {
	name   string
	op     backends.Op
	fields []field
	run    func(b backends.Backend, k backends.Kernel) error
	more   *[]float64 // a result that is the program's
}

// layerCalls makes the calls, the same ones every time: rows that a warp has, that it holds in registers, and that are cut into chunks; operands that share memory as they may.
func layerCalls() (list []layerCall) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	squares := func(n int) []float32 {
		x := random(n)
		for i := range x {
			x[i] *= x[i]
		}
		return x
	}
	for _, shape := range [][2]int{{37, 60}, {3, 1500}, {2, 9001}} {
		rows, cols := shape[0], shape[1]
		n := rows * cols
		size := fmt.Sprintf(" %dx%d", rows, cols)
		for i := range 4 {
			a := &backends.RMSNorm{X: random(n), Cols: cols, Gain: random(cols), Scale: make([]float32, rows), Out: make([]float32, n), Epsilon: 1e-5}
			name := "rmsnorm"
			if i > 0 {
				a.Delta = random(n)
				a.Sum = [][]float32{make([]float32, n), a.X, a.Delta}[i-1]
				name += []string{" with delta", " sum in x", " sum in delta"}[i-1]
			}
			list = append(list, layerCall{name + size, backends.OpRMSNorm, []field{{&a.X, &a.XAt}, {&a.Delta, &a.DeltaAt}, {&a.Sum, &a.SumAt}, {&a.Gain, &a.GainAt}, {&a.Scale, &a.ScaleAt}, {&a.Out, &a.OutAt}}, func(b backends.Backend, k backends.Kernel) error { return b.RMSNorm(k, a) }, nil})
		}
		for i := range 4 {
			a := &backends.RMSNorm{X: random(n), Cols: cols, Scale: squares(rows), DY: random(n), Out: random(n), Epsilon: 1e-5, Add: i&2 != 0}
			name := fmt.Sprintf("rmsnorm gradient add=%v", a.Add)
			if i&1 != 0 {
				a.Gain, a.DGain, a.Parts, a.Out = random(cols), random(cols), make([]float32, (rows+backends.NormBlock-1)/backends.NormBlock*cols), a.DY
				name += " with gain in dy"
			}
			list = append(list, layerCall{name + size, backends.OpRMSNorm, []field{{&a.X, &a.XAt}, {&a.Gain, &a.GainAt}, {&a.Scale, &a.ScaleAt}, {&a.DY, &a.DYAt}, {&a.Out, &a.OutAt}, {&a.DGain, &a.DGainAt}}, func(b backends.Backend, k backends.Kernel) error { return b.RMSNorm(k, a) }, nil})
		}
		for i := range 4 {
			a := &backends.Softmax{X: random(n), Cols: cols, Period: i % 2 * (cols/2 + 1), Scale: 0.3, Factor: 0.9}
			name := "softmax"
			if i < 2 {
				a.Stats = make([]float64, 2*rows)
			} else {
				a.P, name = random(n), "softmax gradient"
			}
			list = append(list, layerCall{fmt.Sprintf("%s period=%d%s", name, a.Period, size), backends.OpSoftmax, []field{{&a.X, &a.XAt}, {&a.P, &a.PAt}}, func(b backends.Backend, k backends.Kernel) error { return b.Softmax(k, a) }, &a.Stats})
		}
		for _, f := range []backends.Function{backends.ReLU2, backends.SwiGLU} {
			for i := range 3 {
				a := &backends.Activate{Function: f, X: random(n * f.Inputs()), Cols: cols, Out: make([]float32, n)}
				name := fmt.Sprintf("activate function=%d", f)
				if i > 0 {
					a.DY, a.Out = random(n), make([]float32, len(a.X))
					name += " gradient"
				}
				if i > 1 {
					a.Out = a.X
					name += " in x"
				}
				list = append(list, layerCall{name + size, backends.OpActivate, []field{{&a.X, &a.XAt}, {&a.DY, &a.DYAt}, {&a.Out, &a.OutAt}}, func(b backends.Backend, k backends.Kernel) error { return b.Activate(k, a) }, nil})
			}
		}
		for _, m := range []backends.Method{backends.AdamW, backends.Momentum} {
			a := &backends.Update{Method: m, Value: random(n), Grad: random(n), M: random(n), Delta: make([]float32, n), Rate: 1e-3, Decay: 0.1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Unbias1: 2, Unbias2: 20}
			if m == backends.AdamW {
				a.V = squares(n)
			}
			list = append(list, layerCall{fmt.Sprintf("update method=%d%s", m, size), backends.OpUpdate, []field{{&a.Value, &a.ValueAt}, {&a.Grad, &a.GradAt}, {&a.M, &a.MAt}, {&a.V, &a.VAt}, {&a.Delta, &a.DeltaAt}}, func(b backends.Backend, k backends.Kernel) error { return b.Update(k, a) }, nil})
		}
	}
	return list
}

// first is the first field that has the memory of field i.
func (c *layerCall) first(i int) int {
	for j := range i {
		if len(*c.fields[j].values) > 0 && len(*c.fields[i].values) > 0 && &(*c.fields[j].values)[0] == &(*c.fields[i].values)[0] {
			return j
		}
	}
	return i
}

// results are the operands after the call, of those on the device what is there.
func (c *layerCall) results(t *testing.T, d backends.Device) (list [][]byte) {
	for _, f := range c.fields {
		v := slices.Clone(*f.values)
		if *f.at != 0 {
			if err := d.Download(backends.Bytes(v), *f.at); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		list = append(list, backends.Bytes(v))
	}
	if c.more != nil {
		list = append(list, backends.Bytes(*c.more))
	}
	return list
}

// Each operand of the ops between products may be on the device while others are in slices, at any address: all of them, each alone, all but each. What is in the slice of one that is on the device plays no part and stays.
func TestLayersOnTheDevice(t *testing.T) {
	b := device(t)
	d := backends.DeviceOf(b)
	kernels := map[backends.Op]backends.Kernel{}
	for _, k := range b.Kernels() {
		kernels[k.Op] = k
	}
	at, err := d.Alloc(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	want := layerCalls()
	for i := range want {
		if err := want[i].run(cpu.Backend{}, backends.Kernel{}); err != nil {
			t.Fatalf("%s: %v", want[i].name, err)
		}
	}
	for i, w := range want {
		var masks []uint
		for m := range len(w.fields) {
			masks = append(masks, 1<<m, ^(1 << m))
		}
		for turn, mask := range append(masks, ^uint(0)) {
			c := layerCalls()[i]
			next := at + backends.Address(4*(turn%2)) // aligned to 16 bytes, or not
			for j, f := range c.fields {
				switch k := c.first(j); {
				case len(*f.values) == 0 || mask>>k&1 == 0:
				case k < j:
					*f.at = *c.fields[k].at
				default:
					if err := d.Upload(next, backends.Bytes(*f.values)); err != nil {
						t.Fatal(err)
					}
					*f.at = next
					next += backends.Address(4 * (len(*f.values) + 8) &^ 15)
					for x := range *f.values {
						(*f.values)[x] = float32(math.NaN())
					}
				}
			}
			if err := c.run(b, kernels[c.op]); err != nil {
				t.Fatalf("%s, mask %b: %v", c.name, mask, err)
			}
			got, right := c.results(t, d), w.results(t, d)
			for j := range got {
				if !bytes.Equal(got[j], right[j]) {
					t.Errorf("%s, mask %b: operand %d differs from pure Go", c.name, mask&(1<<len(w.fields)-1), j)
				}
			}
			for j, f := range c.fields {
				if *f.at != 0 && slices.ContainsFunc(*f.values, func(v float32) bool { return v == v }) {
					t.Errorf("%s, mask %b: the slice of operand %d was written to", c.name, mask, j)
				}
			}
		}
	}
}

// A block that the library refuses has changed nothing, and the message says why.
func TestLayersRefused(t *testing.T) {
	b := device(t)
	refused := 0
	for _, k := range b.Kernels() {
		x, why := []float32{1, 2}, ""
		var err error
		switch k.Op {
		case backends.OpRMSNorm:
			err, why = b.RMSNorm(k, &backends.RMSNorm{X: x, Cols: 2, Scale: make([]float32, 1), Out: x, Epsilon: -1}), "epsilon is negative"
		case backends.OpSoftmax:
			err, why = b.Softmax(k, &backends.Softmax{X: x, Cols: 2, Period: 3, Scale: 1}), "the period is not within"
		case backends.OpActivate:
			err, why = b.Activate(k, &backends.Activate{Function: 9, X: x, Cols: 2, Out: x}), "unknown kind"
		case backends.OpUpdate:
			err, why = b.Update(k, &backends.Update{Method: backends.Momentum, Value: x, Grad: x, M: x, Delta: x, Rate: math.Inf(1)}), "a constant is not finite"
		default:
			continue
		}
		refused++
		if err == nil || !strings.Contains(err.Error(), why) || !slices.Equal(x, []float32{1, 2}) {
			t.Errorf("%v: %v, %v", k.Op, x, err)
		}
	}
	if refused != 4 {
		t.Errorf("%d kernels were asked", refused)
	}
}
