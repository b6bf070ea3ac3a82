// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// spoiler computes as pure Go does and then spoils something.
type spoiler struct {
	cpu.Backend
	float func(x []float32) // a result of floats
	code  func(x []byte)    // of codes
	err   error
}

func (s *spoiler) floats(x []float32) {
	if s.float != nil && len(x) > 0 {
		s.float(x)
	}
}

func (s *spoiler) codes(a []int8, b []byte) {
	if s.code != nil {
		if len(a) > 0 {
			s.code(backends.Bytes(a))
		}
		if len(b) > 0 {
			s.code(b)
		}
	}
}

func (s *spoiler) double(x *float64) {
	if s.float != nil {
		*x = math.Nextafter(*x, 0)
	}
}

func (s *spoiler) Quantize(k backends.Kernel, a *backends.Quantize) error {
	err := s.Backend.Quantize(k, a)
	s.floats(a.Dst.Scales)
	s.codes(a.Dst.Codes, a.Dst.Packed)
	return errors.Join(err, s.err)
}

func (s *spoiler) Constrain(k backends.Kernel, a *backends.Constrain) error {
	err := s.Backend.Constrain(k, a)
	s.floats(a.Dst)
	return errors.Join(err, s.err)
}

func (s *spoiler) Reduce(k backends.Kernel, a *backends.Reduce) error {
	err := s.Backend.Reduce(k, a)
	s.double(&a.Result)
	return errors.Join(err, s.err)
}

func (s *spoiler) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	err := s.Backend.KMeans(ctx, k, a)
	s.floats(a.Centroids)
	return errors.Join(err, s.err)
}

// KMeansMany spoils the last of many alone.
func (s *spoiler) KMeansMany(ctx context.Context, k backends.Kernel, a *backends.KMeansMany) error {
	for _, fit := range a.Fits {
		if err := s.Backend.KMeans(ctx, k, fit); err != nil {
			return err
		}
	}
	s.floats(a.Fits[len(a.Fits)-1].Centroids)
	return s.err
}

func (s *spoiler) MatMul(k backends.Kernel, a *backends.MatMul) error {
	err := s.Backend.MatMul(k, a)
	s.floats(a.C)
	return errors.Join(err, s.err)
}

func (s *spoiler) ConstrainClusters(k backends.Kernel, a *backends.Clusters) error {
	err := s.Backend.ConstrainClusters(k, a)
	s.floats(a.Dst)
	return errors.Join(err, s.err)
}

func (s *spoiler) Step(k backends.Kernel, a *backends.Step) error {
	err := s.Backend.Step(k, a)
	s.floats(a.Params)
	s.codes(a.Dst.Codes, a.Dst.Packed)
	return errors.Join(err, s.err)
}

func (s *spoiler) Activations(k backends.Kernel, a *backends.Activations) error {
	err := s.Backend.Activations(k, a)
	s.floats(a.Dst.Scales)
	s.codes(a.Dst.Codes, nil)
	return errors.Join(err, s.err)
}

func (s *spoiler) Ternary(k backends.Kernel, a *backends.Ternary) error {
	err := s.Backend.Ternary(k, a)
	s.floats(a.Out)
	return errors.Join(err, s.err)
}

func (s *spoiler) Recode(k backends.Kernel, a *backends.Recode) error {
	err := s.Backend.Recode(k, a)
	s.codes(a.To.Codes, a.To.Packed)
	return errors.Join(err, s.err)
}

func (s *spoiler) RMSNorm(k backends.Kernel, a *backends.RMSNorm) error {
	err := s.Backend.RMSNorm(k, a)
	s.floats(a.Out)
	return errors.Join(err, s.err)
}

func (s *spoiler) Softmax(k backends.Kernel, a *backends.Softmax) error {
	err := s.Backend.Softmax(k, a)
	s.floats(a.X)
	return errors.Join(err, s.err)
}

func (s *spoiler) Activate(k backends.Kernel, a *backends.Activate) error {
	err := s.Backend.Activate(k, a)
	s.floats(a.Out)
	return errors.Join(err, s.err)
}

func (s *spoiler) Update(k backends.Kernel, a *backends.Update) error {
	err := s.Backend.Update(k, a)
	s.floats(a.Delta)
	return errors.Join(err, s.err)
}

// failed runs the test of every op, or of kernels that are fast, and returns what failed by op.
func failed(t *testing.T, b backends.Backend, fast bool) map[string]Failure {
	t.Helper()
	kernels := cpu.Backend{}.Kernels()
	for i := range kernels {
		kernels[i].Fast = fast
	}
	began := 0
	list, err := Prepare(backends.Ops()...).Run(b, kernels, func(backends.Kernel) { began++ })
	if err != nil || began != len(kernels) {
		t.Fatalf("%d kernels of %d, %v", began, len(kernels), err)
	}
	by := map[string]Failure{}
	for _, f := range list {
		if by[f.Op].Op != "" || f.Kernel != "go" || f.Shape == "" || f.Detail == "" {
			t.Errorf("%+v", f)
		}
		by[f.Op] = f
	}
	return by
}

func TestPureGoPasses(t *testing.T) {
	for _, fast := range []bool{false, true} {
		for _, f := range failed(t, cpu.Backend{}, fast) {
			t.Error(f)
		}
	}
	for _, op := range backends.Ops() {
		if n := len(trialsOf(op)); n < 3 {
			t.Errorf("%v has %d trials", op, n)
		}
	}
}

// What is wrong in one bit of one value is noticed in every op.
func TestWrongResultsAreNoticed(t *testing.T) {
	last := func(change func(x float32) float32) func(x []float32) {
		return func(x []float32) { x[len(x)-1] = change(x[len(x)-1]) }
	}
	for name, float := range map[string]func(x []float32){
		"one unit": last(func(x float32) float32 { return math.Nextafter32(x, 2) }),
		"NaN":      last(func(float32) float32 { return float32(math.NaN()) }),
		"zeros":    func(x []float32) { clear(x) },
	} {
		got := failed(t, &spoiler{float: float}, false)
		for _, op := range backends.Ops() {
			if f := got[op.String()]; op != backends.OpRecode && !strings.Contains(f.Detail, "pure Go has") {
				t.Errorf("%s, %v: %+v", name, op, f)
			}
		}
	}
	got := failed(t, &spoiler{code: func(x []byte) { x[len(x)/2] ^= 1 }}, false)
	for _, op := range []backends.Op{backends.OpQuantize, backends.OpStep, backends.OpActivations, backends.OpRecode} {
		if got[op.String()].Op == "" {
			t.Errorf("codes, %v: not noticed", op)
		}
	}
	if len(got) != 4 {
		t.Errorf("%+v", got)
	}
}

// Of fast kernels what is exact must be right.
func TestFastKernels(t *testing.T) {
	got := failed(t, &spoiler{float: func(x []float32) { x[0]++ }}, true)
	if len(got) != 2 || got["matmul"].Op == "" || got["kmeans"].Op == "" {
		t.Errorf("%+v", got)
	}
}

// A kernel that takes many problems is tried on many.
func TestManyProblems(t *testing.T) {
	for _, many := range []bool{false, true} {
		k := []backends.Kernel{{Op: backends.OpKMeans, Name: "k", Many: many}}
		only := &onlyMany{spoiler{float: func(x []float32) { x[3]++ }}}
		list, err := Prepare(backends.OpKMeans).Run(only, k, func(backends.Kernel) {})
		if err != nil || (len(list) == 1) != many {
			t.Errorf("many %v: %v, %v", many, list, err)
		}
	}
}

// onlyMany is right about each problem by itself.
type onlyMany struct{ spoiler }

func (s *onlyMany) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	return s.Backend.KMeans(ctx, k, a)
}

// trespasser writes where it must not, so many values away from its output; or into its input.
type trespasser struct {
	cpu.Backend
	away  int
	input bool
}

func (s *trespasser) Constrain(k backends.Kernel, a *backends.Constrain) error {
	err := s.Backend.Constrain(k, a)
	if s.input {
		a.X[0]++
	} else {
		*(*float32)(unsafe.Add(unsafe.Pointer(&a.Dst[0]), 4*s.away)) = 0
	}
	return err
}

func TestTrespassersAreNoticed(t *testing.T) {
	for word, s := range map[string]*trespasser{"changed input 0": {input: true}, "wrote outside its operands, 0 bytes": {away: 7}, "wrote outside its operands, 252 bytes": {away: -1}} { // the first trial has 7 values
		if f := failed(t, s, false)["constrain"]; !strings.Contains(f.Detail, word) {
			t.Errorf("%q: %+v", word, f)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, op := range backends.Ops() {
		k := []backends.Kernel{{Op: op, Name: "k"}}
		quiet := func(backends.Kernel) {}
		if list, err := Prepare(backends.Ops()...).Run(&spoiler{err: backends.ErrUnsupported}, k, quiet); len(list) != 0 || err != nil {
			t.Errorf("%v, not supported: %+v, %v", op, list, err)
		}
		if list, err := Prepare(backends.Ops()...).Run(&spoiler{err: backends.ErrBackend}, k, quiet); len(list) != 1 || err != nil || list[0].Op != op.String() || !strings.Contains(list[0].String(), "/k on ") {
			t.Errorf("%v, failed: %+v, %v", op, list, err)
		}
		for _, e := range []error{backends.ErrMemory, backends.ErrLost} {
			if list, err := Prepare(backends.Ops()...).Run(&spoiler{err: e}, k, quiet); len(list) != 0 || !errors.Is(err, e) {
				t.Errorf("%v, %v: %+v, %v", op, e, list, err)
			}
		}
	}
}
