// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
)

// drawn makes tensors with few distinct numbers, so that ties and exact fits happen.
func drawn(t *rapid.T) []Tensor {
	list := make([]Tensor, rapid.IntRange(1, 6).Draw(t, "tensors"))
	for i := range list {
		list[i] = Tensor{Name: fmt.Sprint(i), Values: 100, Energy: float64(rapid.IntRange(0, 40).Draw(t, "energy")), Weight: float64(rapid.IntRange(0, 3).Draw(t, "weight"))}
		for range rapid.IntRange(1, 6).Draw(t, "candidates") {
			list[i].Candidates = append(list[i].Candidates, Candidate{Kind: F32,
				Bytes: int64(rapid.IntRange(0, 30).Draw(t, "bytes")), Error: float64(rapid.IntRange(0, 30).Draw(t, "error"))})
		}
	}
	return list
}

// every calls f for each choice, with its bytes and weighted error.
func every(list []Tensor, bytes int64, sum float64, f func(bytes int64, sum float64)) {
	if len(list) == 0 {
		f(bytes, sum)
		return
	}
	for _, c := range list[0].Candidates {
		every(list[1:], bytes+c.Bytes, sum+list[0].weight()*c.Error, f)
	}
}

// sums adds up a plan.
func sums(list []Tensor, p *Plan) (bytes int64, sum float64) {
	for i, c := range p.Choices {
		bytes += list[i].Candidates[c.Index].Bytes
		sum += list[i].weight() * list[i].Candidates[c.Index].Error
	}
	return bytes, sum
}

func TestBytesAgainstAllChoices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawn(t)
		b := Budget{Bytes: int64(rapid.IntRange(1, 150).Draw(t, "budget"))}
		best, least := math.Inf(1), int64(math.MaxInt64)
		every(list, 0, 0, func(bytes int64, sum float64) {
			if least = min(least, bytes); bytes <= b.Bytes {
				best = min(best, sum)
			}
		})
		p, err := Solve(list, b)
		if math.IsInf(best, 1) {
			var no *InfeasibleError
			if !errors.As(err, &no) || !errors.Is(err, ErrInfeasible) || no.Least.Bytes != least {
				t.Fatalf("%v; the least is %d bytes", err, least)
			}
			if p, err = Solve(list, no.Least); err != nil && least > 0 {
				t.Fatalf("the least possible budget: %v, %v", p, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes, sum := sums(list, p)
		if sum != best || bytes > b.Bytes || bytes != p.Bytes || sum != p.Error || !p.Optimal {
			t.Fatalf("%d bytes, error %v; the best is %v\n%v", bytes, sum, best, p)
		}
		if p.Bound > best*(1+1e-12) || p.Gap < 0 {
			t.Fatalf("bound %v above the best, %v; gap %v", p.Bound, best, p.Gap)
		}
	})
}

func TestErrorAgainstAllChoices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawn(t)
		list[0].Energy += 1
		energy := 0.0
		for i := range list {
			energy += list[i].weight() * list[i].Energy
		}
		limit := float64(rapid.IntRange(1, 150).Draw(t, "budget"))
		b := Budget{RelativeError: limit / energy}
		best, least := int64(math.MaxInt64), math.Inf(1)
		every(list, 0, 0, func(bytes int64, sum float64) {
			if least = min(least, sum); sum <= limit {
				best = min(best, bytes)
			}
		})
		p, err := Solve(list, b)
		if best == math.MaxInt64 {
			var no *InfeasibleError
			if !errors.As(err, &no) || math.Abs(no.Least.RelativeError*energy-least) > 1e-9 {
				t.Fatalf("%v; the least is an error of %v", err, least)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes, sum := sums(list, p)
		if bytes != best || sum > limit || bytes != p.Bytes || !p.Optimal || p.Bound > float64(best)*(1+1e-12) {
			t.Fatalf("%d bytes, error %v of %v; the best is %d\n%v", bytes, sum, limit, best, p)
		}
	})
}

// model makes a model of n matrices whose candidates look like measured ones.
func model(n int, seed uint64) (list []Tensor, smallest, largest int64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		values := int64(1+r.IntN(64)) << 16
		energy := float64(values) * math.Exp(2*r.NormFloat64())
		t := Tensor{Name: fmt.Sprint("blk.", i), Values: values, Energy: energy}
		for _, c := range []struct {
			levels    quant.Levels
			bits, err float64
		}{{quant.Ternary, 1.54, 0.19}, {quant.Quinary, 2.2, 0.08}, {quant.Sparse, 1.25, 0.25}} {
			for _, group := range []int{64, 128, 256, quant.PerRow} {
				shrink := 1 - 0.3*r.Float64()/math.Sqrt(float64(max(group, 1)))
				bits := c.bits*(1+0.02*r.Float64()) + 16/float64(max(group, 64))
				t.Candidates = append(t.Candidates, Candidate{Kind: Quantized, Levels: c.levels, Rule: quant.LeastSquares, Group: group, Coding: stn.RANS,
					Bytes: int64(bits * float64(values) / 8), Error: energy * c.err * shrink})
			}
		}
		t.Candidates = append(t.Candidates, Candidate{Kind: Int8Rows, Bytes: values + 4096, Error: 1e-4 * energy}, Candidate{Kind: F16, Bytes: 2 * values, Error: 1e-7 * energy},
			Candidate{Kind: F32, Bytes: 4 * values})
		list = append(list, t)
		order := useful(t.Candidates)
		smallest, largest = smallest+t.Candidates[order[0]].Bytes, largest+4*values
	}
	return list, smallest, largest
}

// TestAgainstTable: more tensors than all choices could be tried of, against the textbook's dynamic programming over the budget.
func TestAgainstTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		list := make([]Tensor, 40)
		most := 20 + r.IntN(400)
		for i := range list {
			list[i] = Tensor{Name: fmt.Sprint(i), Energy: 1}
			for range 1 + r.IntN(12) {
				list[i].Candidates = append(list[i].Candidates, Candidate{Kind: F32, Bytes: int64(r.IntN(most)), Error: float64(r.IntN(10 * most))})
			}
		}
		b := Budget{Bytes: int64(1 + r.IntN(20*most))}
		best := make([]float64, b.Bytes+1)
		for _, x := range list {
			next := make([]float64, b.Bytes+1)
			for n := range next {
				next[n] = math.Inf(1)
				for _, c := range x.Candidates {
					if int(c.Bytes) <= n {
						next[n] = min(next[n], best[n-int(c.Bytes)]+c.Error)
					}
				}
			}
			best = next
		}
		p, err := Solve(list, b)
		if want := best[b.Bytes]; math.IsInf(want, 1) != errors.Is(err, ErrInfeasible) || err == nil && (p.Error != want || !p.Optimal) {
			t.Fatalf("%v, %v; the best is %v", p, err, want)
		}
	})
}

// TestModels: problems of the size of models are solved to the end in a moment, and the same way twice.
func TestModels(t *testing.T) {
	complete, runs, slowest, widest := 0, 0, time.Duration(0), 0.0
	for _, n := range []int{2, 10, 100, 400} {
		for seed := range uint64(5) {
			list, smallest, largest := model(n, seed)
			for _, share := range []float64{0.001, 0.02, 0.1, 0.5} {
				b := Budget{Bytes: smallest + int64(share*float64(largest-smallest))}
				begin := time.Now()
				p, err := Solve(list, b)
				if err != nil {
					t.Fatal(err)
				}
				slowest, runs, widest = max(slowest, time.Since(begin)), runs+1, max(widest, p.Gap)
				if p.Optimal {
					complete++
				}
				if p.Bytes > b.Bytes || p.Error < p.Bound*(1-1e-9) || !p.Optimal {
					t.Errorf("%d tensors: %d of %d bytes, error %v, bound %v, gap %v", n, p.Bytes, b.Bytes, p.Error, p.Bound, p.Gap)
				}
				again, err := Solve(list, b)
				if err != nil || !cmp.Equal(p, again) {
					t.Errorf("another plan the second time (%v):\n%s", err, cmp.Diff(p, again))
				}
				// The other way round: as many bytes as this error needs are no more than these.
				back, err := Solve(list, Budget{RelativeError: p.Relative * (1 + 1e-12)})
				if err != nil || p.Optimal && back.Optimal && back.Bytes > p.Bytes {
					t.Errorf("%d bytes for the error of %d (%v)", back.Bytes, p.Bytes, err)
				}
			}
		}
	}
	t.Logf("%d of %d searches complete, the slowest took %v, the widest gap to the bound was %.3g", complete, runs, slowest, widest)
}

// TestAdverse: what a candidate saves is what it costs, and sums are large and without a pattern, so that nothing can be ruled out. The search gives up; the choice keeps the budget, and says how far it can be from the best.
func TestAdverse(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var list []Tensor
	total := int64(0)
	for i := range 60 {
		x := Tensor{Name: fmt.Sprint(i), Energy: 1}
		most := int64(0)
		for range 12 {
			most = max(most, r.Int64N(1<<40))
			x.Candidates = append(x.Candidates, Candidate{Kind: F32, Bytes: most, Error: float64(1<<40-most) + float64(r.IntN(1<<20))})
		}
		total += most
		list = append(list, x)
	}
	begin := time.Now()
	p, err := Solve(list, Budget{Bytes: total/10*7 + 12345})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("complete %v, gap %.3g, %v", p.Optimal, p.Gap, time.Since(begin))
	if p.Bytes > p.Budget.Bytes || p.Gap > 1e-6 || p.Error < p.Bound*(1-1e-12) {
		t.Errorf("%d of %d bytes, gap %v", p.Bytes, p.Budget.Bytes, p.Gap)
	}
}

// TestLargerBudgetsAreNoWorse, and λ falls.
func TestLargerBudgetsAreNoWorse(t *testing.T) {
	list, smallest, largest := model(12, 3)
	last, lambda := math.Inf(1), math.Inf(1)
	for i := range 60 {
		p, err := Solve(list, Budget{Bytes: smallest + int64(float64(i)/59*float64(largest-smallest))})
		if err != nil {
			t.Fatal(err)
		}
		if p.Error > last || p.Lambda > lambda*(1+1e-12) {
			t.Errorf("budget %d: error %v after %v, λ %v after %v", p.Budget.Bytes, p.Error, last, p.Lambda, lambda)
		}
		last, lambda = p.Error, p.Lambda
	}
	if last != 0 || lambda != 0 {
		t.Errorf("with room for all: error %v, λ %v", last, lambda)
	}
}

func TestExplanation(t *testing.T) {
	list := []Tensor{{Name: "a", Values: 8, Energy: 100, Candidates: []Candidate{
		{Kind: F32, Bytes: 32}, {Kind: F16, Bytes: 16, Error: 4}, {Kind: Int8Rows, Bytes: 20, Error: 9}, {Kind: Quantized, Levels: quant.Ternary, Rule: quant.LeastSquares, Group: quant.PerRow, Coding: stn.RANS, Bytes: 4, Error: 16}}},
		{Name: "b", Values: 8, Energy: 100, Weight: 2, Candidates: []Candidate{{Kind: F32, Bytes: 10}}}}
	p, err := Solve(list, Budget{Bytes: 30})
	if err != nil {
		t.Fatal(err)
	}
	want := &Plan{Budget: Budget{Bytes: 30}, Bytes: 26, Error: 4, Relative: 4.0 / 300, Bound: 3, Gap: 1.0 / 3, Optimal: true, Lambda: 0.25, Choices: []Choice{
		{Tensor: "a", Index: 1, Candidate: list[0].Candidates[1], Bits: 16, Relative: 0.04, Lambda: 1, Cheaper: &Step{list[0].Candidates[3], -12, 12}, Dearer: &Step{list[0].Candidates[0], 16, -4}},
		{Tensor: "b", Candidate: list[1].Candidates[0], Bits: 10}}}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(a) })
	if d := cmp.Diff(want, p, near); d != "" {
		t.Errorf("%s", d)
	}
	for _, says := range []string{"least error within 30 bytes → 26 bytes, relative error 0.01333; no choice is better, bound 3, λ 0.25",
		"ternary least-squares row rans: -12 bytes, error +12", "f32: +16 bytes, error -4", "–"} {
		if !strings.Contains(p.String(), says) {
			t.Errorf("%q is missing in\n%v", says, p)
		}
	}
}

func TestArguments(t *testing.T) {
	one := func(c ...Candidate) []Tensor { return []Tensor{{Name: "w", Values: 1, Energy: 1, Candidates: c}} }
	fine := Candidate{Kind: F32, Bytes: 4}
	for name, c := range map[string]struct {
		list []Tensor
		b    Budget
	}{
		"no budget":         {one(fine), Budget{}},
		"two budgets":       {one(fine), Budget{1, 1}},
		"negative":          {one(fine), Budget{Bytes: -1}},
		"not a number":      {one(fine), Budget{RelativeError: math.NaN()}},
		"no tensors":        {nil, Budget{Bytes: 9}},
		"no candidates":     {one(), Budget{Bytes: 9}},
		"negative bytes":    {one(Candidate{Bytes: -1}), Budget{Bytes: 9}},
		"error NaN":         {one(Candidate{Error: math.NaN()}), Budget{Bytes: 9}},
		"error infinite":    {one(Candidate{Error: math.Inf(1)}), Budget{Bytes: 9}},
		"too many bytes":    {one(Candidate{Bytes: 1<<53 + 1}), Budget{Bytes: 9}},
		"energy NaN":        {[]Tensor{{Energy: math.NaN(), Candidates: []Candidate{fine}}}, Budget{Bytes: 9}},
		"sums are infinite": {append(one(Candidate{Error: 1e308}), one(Candidate{Error: 1e308})...), Budget{Bytes: 9}},
	} {
		if p, err := Solve(c.list, c.b); !errors.Is(err, ErrArgument) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}
