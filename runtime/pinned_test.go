// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"testing"
)

func TestPinnedValuesAreValues(t *testing.T) {
	rt := open(t, WithoutNative())
	p, err := rt.NewPinned(1000)
	if err != nil {
		t.Fatal(err)
	}
	copy(p.Values(), ramp(1000))
	want, _ := rt.Norm2(ramp(1000))
	if got, err := rt.Norm2(p.Values()); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := rt.NewPinned(0); !errors.Is(err, ErrArgument) {
		t.Error(err)
	}
}
