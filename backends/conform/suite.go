// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
	"strconv"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// SeedVariable is the environment variable with the seed of the random cases of a test, to run those of a failure again.
const SeedVariable = "SETUN_CONFORM_SEED"

func seedFromEnvironment(t *testing.T) uint64 {
	text := os.Getenv(SeedVariable)
	if text == "" {
		return 0
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", SeedVariable, err)
	}
	return seed
}

// suite is the cases of one op. The first of the arms is pure Go; the others are compared with it.
type suite struct {
	ctx     context.Context
	op      backends.Op
	o       Options
	arms    []*arm
	fast    []*arm
	memory  arena
	turn    int    // cases so far
	outside bool   // the cases now are not in the digest
	drawn   string // of random cases: which
	values  map[string][]float32
}

// arm is a kernel with what it has done.
type arm struct {
	Arm
	row     ArmReport
	hash    hash.Hash
	failure string
	telling bool // of a Fast one: some result was larger than its bound
	call    call
}

func newSuite(ctx context.Context, op backends.Op, arms []Arm, o Options) *suite {
	s := &suite{ctx: ctx, op: op, o: o, values: map[string][]float32{}}
	add := func(list *[]*arm, a Arm) {
		*list = append(*list, &arm{Arm: a, hash: sha256.New(), row: ArmReport{Op: op.String(), Arm: a.String()}})
	}
	add(&s.arms, Arm{cpu.Backend{}, backends.Kernel{Op: op, Name: "go", Threads: 1}})
	for _, a := range arms {
		switch _, pure := a.Backend.(cpu.Backend); {
		case a.Kernel.Op != op || pure:
		case a.Kernel.Fast:
			add(&s.fast, a)
		default:
			add(&s.arms, a)
		}
	}
	return s
}

// cases are those of an op.
type cases struct {
	fixed, large func()
	random       func(d *draws)
}

func (s *suite) cases() cases {
	return map[backends.Op]cases{
		backends.OpQuantize:  {s.quantize, s.largeQuantize, s.randomQuantize},
		backends.OpConstrain: {s.constrain, s.largeConstrain, s.randomConstrain},
		backends.OpDot:       {s.reduce, nil, s.randomReduce},
		backends.OpNorm2:     {s.reduce, nil, s.randomReduce},
		backends.OpKMeans:    {s.kmeans, nil, s.randomKMeans},
		backends.OpMatMul:    {s.products, nil, s.randomProduct},
		backends.OpClusters:  {s.clusters, nil, s.randomClusters},
		backends.OpStep:      {s.step, nil, s.randomStep},

		backends.OpActivations: {s.activations, nil, s.randomActivations},
		backends.OpTernary:     {s.ternaries, nil, s.randomTernary},
		backends.OpRecode:      {s.ternaries, nil, s.randomTernary},

		backends.OpRMSNorm:  {s.norms, nil, s.randomNorm},
		backends.OpSoftmax:  {s.softmaxes, nil, s.randomSoftmax},
		backends.OpActivate: {s.functions, nil, s.randomFunction},
		backends.OpUpdate:   {s.updates, nil, s.randomUpdate},
	}[s.op]
}

func (s *suite) run() {
	defer s.memory.free()
	p := s.cases()
	p.fixed()
	for _, a := range s.arms {
		a.row.Digest = fmt.Sprintf("%x", a.hash.Sum(nil)[:16])
	}
	s.outside = true
	if s.o.Large && p.large != nil {
		p.large()
	}
	s.random(p.random)
}

// report adds what the arms did.
func (s *suite) report(r *Report) {
	for at := 0; at < line && !s.o.Short; at += 4 {
		if !s.memory.seen[at] {
			s.arms[0].fail("no piece of memory began %d bytes into a cache line", at)
		}
	}
	for _, a := range append(s.arms, s.fast...) {
		switch {
		case a.row.Cases == 0:
			a.fail("no case ran")
		case a.Kernel.Fast && !a.telling:
			a.fail("no bound would have noticed zeros in place of the results")
		}
		if a.failure != "" {
			r.Failures = append(r.Failures, fmt.Sprintf("%s on %s: %s", s.op, a, a.failure))
		}
		if s.o.Short || a.Kernel.Fast || a.row.Refused > 0 {
			a.row.Digest = ""
		}
		r.Arms = append(r.Arms, a.row)
		r.Cases += a.row.Cases
		r.Mismatches += a.row.Mismatches
	}
}

func (a *arm) fail(format string, args ...any) {
	a.row.Mismatches++
	if a.failure == "" {
		a.failure = fmt.Sprintf(format, args...)
	}
}

// compare runs a case on every arm. body makes the call on memory from c and records what came back.
func (s *suite) compare(name string, body func(c *call)) {
	if s.ctx.Err() != nil {
		return
	}
	s.turn++
	name = s.drawn + name
	for _, a := range s.arms {
		if s.one(a, name, body); a.call.refused {
			continue
		}
		if !s.outside {
			a.hash.Write(a.call.out.bytes)
		}
		if d := a.call.out.differ(&s.arms[0].call.out); d != "" {
			a.fail("%s: %s", name, d)
		}
	}
}

// one runs a case on an arm and looks whether it kept to its memory.
func (s *suite) one(a *arm, name string, body func(c *call)) {
	c := &a.call
	c.start(a.Arm, &s.memory, s.turn)
	body(c)
	if c.refused {
		a.row.Refused++
	} else {
		a.row.Cases++
	}
	if fault := c.end(); fault != "" {
		a.fail("%s: %s", name, fault)
	}
}

// call is a case on one arm: it hands out memory and takes down what came back.
type call struct {
	Arm
	pure   bool // this is the pure Go that the others are compared with
	memory *arena
	turn   int
	given  []pair

	refused bool // the kernel does not have what the case asks for
	out     transcript
	fault   string
}

// pair is an input and what it was.
type pair struct{ now, then []byte }

func (c *call) start(a Arm, m *arena, turn int) {
	c.Arm, c.memory, c.turn, c.fault, c.refused = a, m, turn, "", false
	_, c.pure = a.Backend.(cpu.Backend)
	c.given = c.given[:0]
	c.out.reset()
	m.begin(turn)
}

// wrong is for what a case expects beyond what pure Go says.
func (c *call) wrong(format string, args ...any) {
	if c.fault == "" {
		c.fault = fmt.Sprintf(format, args...)
	}
}

func (c *call) end() string {
	for i, g := range c.given {
		if string(g.now) != string(g.then) {
			c.wrong("input %d has changed", i)
		}
	}
	if where := c.memory.trespassed(); where != "" {
		c.wrong("%s", where)
	}
	return c.fault
}

// failed records an error: its sentinel and detail, which are the same on every backend. It tells whether there was one.
func (c *call) failed(err error) bool {
	text := ""
	if c.Kernel.Memory != 0 && errors.Is(err, backends.ErrUnsupported) { // the runtime goes on with the next best kernel
		c.refused = true
	}
	if err != nil {
		text = err.Error()
		if e := (*backends.Error)(nil); errors.As(err, &e) {
			text = e.Err.Error() + ": " + e.Detail
		}
	}
	record(&c.out, "error", []byte(text))
	return err != nil
}

// input is a copy of v for a kernel to read; it is compared afterwards. nil stays nil.
func input[E any](c *call, v []E) []E {
	w := inout(c, v)
	if v != nil {
		c.given = append(c.given, pair{raw(w), raw(v)})
	}
	return w
}

// inout is a copy of v for a kernel to change.
func inout[E any](c *call, v []E) []E {
	if v == nil {
		return nil
	}
	w := room[E](c, len(v))
	copy(w, v)
	return w
}
