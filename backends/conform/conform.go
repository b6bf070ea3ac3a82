// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Digest is that of the fixed cases, on every machine. It changes with the cases and with docs/numerics.md, and with nothing else.
const Digest = "da2c0bac8d64aa3c3c52b3855c602079"

// Arm is a kernel under test.
type Arm struct {
	Backend backends.Backend
	Kernel  backends.Kernel
}

// String returns "backend/kernel".
func (a Arm) String() string { return a.Backend.Name() + "/" + a.Kernel.Name }

// Arms lists a backend's kernels.
func Arms(b backends.Backend) []Arm {
	var list []Arm
	for _, k := range b.Kernels() {
		list = append(list, Arm{b, k})
	}
	return list
}

// Options say what runs. The zero value is the fixed cases of every op.
type Options struct {
	Ops    []backends.Op // nil: all
	Short  bool          // a sample of the fixed cases; there is no digest then
	Large  bool          // also sizes past the caches, outside the digest
	Seed   uint64        // of Random
	Random int           // cases of each op that are drawn from Seed, outside the digest
	// Progress is called when an op is done, by one goroutine at a time; nil: nobody is told.
	Progress func(op backends.Op, cases int)
}

// ArmReport is what one kernel did.
type ArmReport struct {
	Op         string `json:"op"`
	Arm        string `json:"arm"`
	Cases      int    `json:"cases"`
	Refused    int    `json:"refused,omitempty"` // beside those: a device's kernel need not have every combination of options
	Mismatches int    `json:"mismatches"`
	Digest     string `json:"digest,omitempty"` // of its results for the fixed cases; none for Fast kernels and those that refused some
}

// Report is what Verify found.
type Report struct {
	Digest     string      `json:"digest"`     // of the results of the fixed cases; empty when arms differ, or not all of them ran
	Cases      int         `json:"cases"`      // over all arms
	Mismatches int         `json:"mismatches"` // cases in which an arm differs from pure Go, left its memory, changed an input or broke its bound
	GuardPages bool        `json:"guard_pages"`
	Arms       []ArmReport `json:"arms"`
	Failures   []string    `json:"failures,omitempty"` // the first of each arm and op
}

// Verify runs the suite on the arms and on pure Go, which is always there. Ops run beside each other on as many threads as Go has. The report is whole
// unless ctx ends; then its error is returned. What arms do wrong is in the report and no error.
func Verify(ctx context.Context, arms []Arm, o Options) (*Report, error) {
	ops := o.Ops
	if ops == nil {
		ops = backends.Ops()
	}
	suites := make([]*suite, len(ops))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var telling sync.Mutex
	var all sync.WaitGroup
	for i, op := range ops {
		s := newSuite(ctx, op, arms, o)
		suites[i] = s
		all.Go(func() {
			free <- struct{}{}
			s.run()
			<-free
			telling.Lock()
			defer telling.Unlock()
			if o.Progress != nil {
				o.Progress(op, s.turn)
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &Report{GuardPages: guardPages}
	whole := sha256.New()
	for _, s := range suites {
		s.report(r)
		fmt.Fprintln(whole, s.op, s.arms[0].row.Digest)
	}
	if same := r.Mismatches == 0; same && !o.Short && len(ops) == len(backends.Ops()) {
		r.Digest = fmt.Sprintf("%x", whole.Sum(nil)[:16])
	}
	return r, nil
}

// Run compares every kernel of b with pure Go in a test: the fixed cases, and some that are new every time, whose seed is in the message of a failure.
// It fails when b has no kernels.
func Run(t *testing.T, b backends.Backend) { Check(t, Arms(b)) }

// Check is Run for some arms.
func Check(t *testing.T, arms []Arm) {
	t.Helper()
	CheckWith(t, arms, Options{Short: testing.Short(), Large: !testing.Short(), Random: 300})
}

// CheckWith is Check for some of the cases. The ops are those of the arms, the seed is another one every time.
func CheckWith(t *testing.T, arms []Arm, o Options) {
	t.Helper()
	if len(arms) == 0 {
		t.Fatal("there are no kernels: nothing was compared")
	}
	seed := rand.Uint64()
	if s := seedFromEnvironment(t); s != 0 {
		seed = s
	}
	o.Seed, o.Ops = seed, nil
	for _, op := range backends.Ops() {
		if slices.ContainsFunc(arms, func(a Arm) bool { return a.Kernel.Op == op }) {
			o.Ops = append(o.Ops, op)
		}
	}
	r, err := Verify(t.Context(), arms, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Arms {
		if t.Logf("%s/%s: %d cases", a.Op, a.Arm, a.Cases); a.Refused > 0 {
			t.Logf("%s/%s: %d more refused", a.Op, a.Arm, a.Refused)
		}
	}
	for _, f := range r.Failures {
		t.Errorf("%s\nrandom cases come back with %s=%d", f, SeedVariable, seed)
	}
	if r.Digest != "" && r.Digest != Digest {
		t.Errorf("the digest is %s, and should be %s", r.Digest, Digest)
	}
}
