// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/runtime"
)

// TestAdviceWithoutLibraries: what is missing is advised with what it is expected to bring, and no more is said of what is there.
func TestAdviceWithoutLibraries(t *testing.T) {
	rt, err := runtime.Open(runtime.WithoutNative(), runtime.WithProfile(""), runtime.WithForce(""))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if rt.Report().Machine.Cores < 2 || len(rt.Report().ISA) == 0 {
		t.Skip("this machine has one core, or no instruction sets that kernels are written for")
	}
	list, err := advise(rt)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, a := range list {
		texts = append(texts, a.Text)
		for _, g := range a.Gains {
			if g.Times <= worth || g.From == "" || g.At == "" {
				t.Errorf("%s: %+v", a.Text, g)
			}
		}
	}
	if len(list) != 3 || len(list[0].Gains) != len(backends.Ops()) || len(list[1].Gains) != len(backends.Ops()) || !strings.Contains(texts[2], "calibrate run") {
		t.Errorf("%q: %+v", texts, list)
	}
	if g := list[1].Gains[0]; g.Times > float64(rt.Report().Machine.Cores)+0.1 {
		t.Errorf("threads are expected to bring more than there are cores: %+v", g)
	}
}

// TestExpectations: an op that is measured to be fast already gains nothing.
func TestExpectations(t *testing.T) {
	r := runtime.Report{Machine: machine.Machine{Cores: 2}, ISA: []machine.ISA{{Name: "avx2", Available: true}}}
	goArm := []dispatch.Arm{{Backend: "cpu", Kernel: "go"}}
	have := map[backends.Op][]dispatch.Arm{backends.OpNorm2: goArm, backends.OpDot: goArm}
	p := &dispatch.Profile{}
	p.Set(backends.OpNorm2, goArm[0], dispatch.Model{Coef: dispatch.Coef{10, 1e-4}})
	router, err := dispatch.NewRouter(have, p, dispatch.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	gains, err := expect(r, router, have, libraries(r)[0].arms)
	if err != nil {
		t.Fatal(err)
	}
	find := func(op string) int { return slices.IndexFunc(gains, func(g gain) bool { return g.Op == op }) }
	if find("norm2") >= 0 || find("dot") < 0 || gains[find("dot")].Times < 5 {
		t.Errorf("%+v", gains)
	}
	if !slices.ContainsFunc(have[backends.OpDot], func(a dispatch.Arm) bool { return a.Kernel == "avx2" }) {
		t.Error("what is advised first is not there for what is advised next")
	}
}
