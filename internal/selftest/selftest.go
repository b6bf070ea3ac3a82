// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"errors"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/internal/fenv"
)

// Failure is what a kernel did wrong on a shape, the first one for each kernel.
type Failure struct {
	Op     string `json:"op"`
	Kernel string `json:"kernel"`
	Shape  string `json:"shape"`
	Detail string `json:"detail"`
}

// String formats as "quantize/avx2 on 33 int8: code[4] is 1 …".
func (f Failure) String() string {
	return f.Op + "/" + f.Kernel + " on " + f.Shape + ": " + f.Detail
}

// trial is one call of an op. make runs it on the memory of t and takes down what came back.
type trial struct {
	shape string
	exact bool // any order of summation gives the same bits
	many  bool // for kernels that take many problems alone
	call  func(t *try) error
	want  results // of pure Go

	broken error // pure Go refuses it
}

// try is a trial on one kernel.
type try struct {
	backend backends.Backend
	kernel  backends.Kernel
	ground  ground
	out     results
	changed string // of the float environment
}

// Trials are those of all ops, with what pure Go answers. They serve any number of backends, one after another.
type Trials struct {
	of map[backends.Op]*prepared
}

// prepared are the trials of an op.
type prepared struct {
	once sync.Once
	list []*trial
}

// Prepare begins to have pure Go answer the trials of ops, beside whatever the caller does meanwhile: loading a library, and testing those ops that are ready. On one processor nothing is gained, or lost.
func Prepare(ops ...backends.Op) *Trials {
	all := &Trials{of: map[backends.Op]*prepared{}}
	for _, op := range ops {
		all.of[op] = new(prepared)
	}
	go func() {
		var t try
		for _, op := range ops {
			all.list(op, &t)
		}
	}()
	return all
}

// list returns the trials of an op. Whoever asks first has pure Go answer them.
func (all *Trials) list(op backends.Op, t *try) []*trial {
	p := all.of[op]
	if p == nil {
		return nil
	}
	p.once.Do(func() {
		p.list = trialsOf(op)
		for _, c := range p.list {
			c.broken = t.run(cpu.Backend{}, backends.Kernel{Op: op, Name: "go"}, c)
			c.want, t.out = t.out, results{}
		}
	})
	return p.list
}

// Run tests kernels of b. before is called ahead of each, with what comes next. The error is that of a machine that cannot do the test now: no memory, or a device that is
// lost; it is no verdict on the library.
func (all *Trials) Run(b backends.Backend, kernels []backends.Kernel, before func(k backends.Kernel)) (failures []Failure, err error) {
	var t try
	for _, k := range kernels {
		list := all.list(k.Op, &t)
		before(k)
		for _, c := range list {
			if k.Fast && !c.exact || c.many && !k.Many {
				continue
			}
			detail, err := t.compare(b, k, c)
			if err != nil {
				return failures, err
			}
			if detail != "" {
				failures = append(failures, Failure{k.Op.String(), k.Name, c.shape, detail})
				break
			}
		}
	}
	return failures, nil
}

// compare runs a trial on a kernel and says what is wrong with what came back.
func (t *try) compare(b backends.Backend, k backends.Kernel, c *trial) (detail string, err error) {
	if c.broken != nil {
		return "the trial itself is wrong: " + c.broken.Error(), nil
	}
	switch err := t.run(b, k, c); {
	case errors.Is(err, backends.ErrUnsupported): // the runtime goes on with another kernel
		return t.ground.disturbed(), nil
	case errors.Is(err, backends.ErrMemory), errors.Is(err, backends.ErrLost):
		return "", err
	case err != nil:
		return err.Error(), nil
	}
	if t.changed != "" {
		return "it changed the float environment: " + t.changed, nil
	}
	if d := t.ground.disturbed(); d != "" {
		return d, nil
	}
	return t.out.differ(&c.want), nil
}

func (t *try) run(b backends.Backend, k backends.Kernel, c *trial) (err error) {
	t.backend, t.kernel = b, k
	t.ground.reset()
	t.out.reset()
	t.changed = fenv.Guard(func() { err = c.call(t) })
	return err
}
