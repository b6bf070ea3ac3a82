// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Each address of the ops between products goes to the array that it belongs to, and to no other; what is nil stays so.
func TestRowOperandsOnADevice(t *testing.T) {
	b, _ := open(t, heap(t, "1", "", "-1"))
	at, err := b.Device().Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{1}
	n := backends.RMSNorm{X: x, Cols: 1, Delta: x, Sum: x, Gain: x, Scale: x, DY: x, Out: x, DGain: x}
	s := backends.Softmax{X: x, Cols: 1, P: x}
	a := backends.Activate{Function: backends.ReLU2, X: x, Cols: 1, DY: x, Out: x}
	u := backends.Update{Method: backends.AdamW, Value: x, Grad: x, M: x, V: x, Delta: x}
	for i, c := range []struct {
		run    func(k backends.Kernel) error
		places []*backends.Address
	}{
		{func(k backends.Kernel) error { return b.RMSNorm(k, &n) }, []*backends.Address{&n.XAt, &n.DeltaAt, &n.SumAt, &n.GainAt, &n.ScaleAt, &n.DYAt, &n.OutAt, &n.DGainAt}},
		{func(k backends.Kernel) error { return b.Softmax(k, &s) }, []*backends.Address{&s.XAt, &s.PAt}},
		{func(k backends.Kernel) error { return b.Activate(k, &a) }, []*backends.Address{&a.XAt, &a.DYAt, &a.OutAt}},
		{func(k backends.Kernel) error { return b.Update(k, &u) }, []*backends.Address{&u.ValueAt, &u.GradAt, &u.MAt, &u.VAt, &u.DeltaAt}},
	} {
		k := b.Kernels()[3+i]
		for j, place := range c.places {
			want := []byte(strings.Repeat("h", len(c.places)))
			want[j] = 'd'
			*place = at
			if err := c.run(k); err == nil || !strings.Contains(err.Error(), ": "+string(want)+":") {
				t.Errorf("%v: %v, not %s", k.Op, err, want)
			}
			*place = 0
		}
	}
	if err := b.Update(b.Kernels()[6], &backends.Update{Method: backends.Momentum, Value: x, Grad: x, M: x, MAt: at, Delta: x}); err == nil || !strings.Contains(err.Error(), ": hhd-h:") {
		t.Errorf("without a second moment: %v", err)
	}
}
