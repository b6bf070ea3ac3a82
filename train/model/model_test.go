// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"math"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

var background = context.Background()

func TestParametersAndFirstWeights(t *testing.T) {
	rt := opened(t)
	c := Config{Vocab: 65, Context: 32, Layers: 2, Heads: 4, Width: 64, Hidden: 256}
	for ternary, linear := range map[bool]float64{false: initialDeviation, true: ternaryDeviation} {
		c := c
		c.Ternary = ternary
		firstWeights(t, made(t, rt, c, 1), linear)
	}
	c.Deviation = 0.3
	firstWeights(t, made(t, rt, c, 1), 0.3)
	m, again, other := made(t, rt, c, 1), made(t, rt, c, 1), made(t, rt, c, 2)
	for i, p := range m.Params() {
		same(t, p.Name, again.Params()[i].Value, p.Value)
		if p.Decay && slices.Equal(other.Params()[i].Value, p.Value) {
			t.Errorf("%s does not depend on the seed", p.Name)
		}
	}
	if got, want := m.token.Value[0], float32(-10668151*0x1p-29); got != want { // the same on every machine
		t.Errorf("first value of seed 1: %b, want %b", got, want)
	}
}

// firstWeights holds each parameter of a new model against its shape and its distribution; linear is the deviation of linear layers' weights.
func firstWeights(t *testing.T, m *Model, linear float64) {
	t.Helper()
	var names []string
	count := 0
	for _, p := range m.Params() {
		names = append(names, p.Name)
		if len(p.Value) != p.Rows*p.Cols || len(p.Grad) != len(p.Value) || cap(p.Value) != len(p.Value) {
			t.Errorf("%s: %d×%d with %d values, %d gradients", p.Name, p.Rows, p.Cols, len(p.Value), len(p.Grad))
		}
		count += len(p.Value)
		want := initialDeviation
		if p.Ternary {
			want = linear
		}
		switch {
		case strings.HasSuffix(p.Name, "norm.weight"):
			if p.Decay || p.Ternary || slices.ContainsFunc(p.Value, func(v float32) bool { return v != 1 }) {
				t.Errorf("%s: decay %v, ternary %v, or not all 1", p.Name, p.Decay, p.Ternary)
			}
			continue
		case strings.Contains(p.Name, "output.weight") && p.Ternary, strings.Contains(p.Name, "down"):
			want /= 2
		}
		if !p.Decay || p.Ternary != strings.HasPrefix(p.Name, "blk.") {
			t.Errorf("%s: decay %v, ternary %v", p.Name, p.Decay, p.Ternary)
		}
		n := float64(len(p.Value))
		sum, squares := 0.0, 0.0
		for _, v := range p.Value {
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
		if got := math.Sqrt(squares / n); math.Abs(got/want-1) > 3/math.Sqrt(2*n)+0.01 || math.Abs(sum/n) > 4*want/math.Sqrt(n) {
			t.Errorf("%s: deviation %v, want %v; mean %v", p.Name, got, want, sum/n)
		}
	}
	if want := 65*64*2 + 32*64 + 64 + 2*(2*64+4*64*64+2*64*256); count != want {
		t.Errorf("%d parameters, want %d: %v", count, want, names)
	}
}

func TestQuantileIsTheInverse(t *testing.T) {
	for _, p := range []float64{0x1p-33, 1e-8, 1e-3, 0.0749, 0.0751, 0.3, 0.5, 0.7, 0.925, 0.9999, 1 - 0x1p-33} {
		if got, want := quantile(p), math.Sqrt2*math.Erfinv(2*p-1); math.Abs(got-want) > 1e-6*max(1, math.Abs(want)) {
			t.Errorf("quantile(%v) = %v, want %v", p, got, want)
		}
		if back := 0.5 * math.Erfc(-quantile(p)/math.Sqrt2); math.Abs(back-p) > 1e-13*p+1e-15 {
			t.Errorf("the distribution function at quantile(%v) is %v", p, back)
		}
	}
}

// TestSameBits runs Backward twice, with mixed and with ternary weights, on several kernels and numbers of threads: losses and gradients are the same bits.
func TestSameBits(t *testing.T) {
	base := Config{Vocab: 65, Context: 64, Layers: 2, Heads: 4, Width: 64, Hidden: 200}
	for _, kind := range []struct {
		name string
		set  func(*Config)
	}{
		{"float32", func(*Config) {}},
		{"swiglu", func(c *Config) { c.Activation, c.TieEmbeddings = SwiGLU, true }},
		{"ternary", func(c *Config) { c.Ternary = true }},
		{"int8", func(c *Config) { c.Ternary, c.QuantizeActivations = true, true }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			c := base
			kind.set(&c)
			var loss []float64
			var grads []float32
			for _, where := range []struct {
				name    string
				threads int
				options []runtime.Option
			}{
				{"pure Go, 1 thread", 1, []runtime.Option{runtime.WithForce("cpu")}},
				{"pure Go, 2 threads", 2, []runtime.Option{runtime.WithForce("cpu")}},
				{"default, 1 thread", 1, nil},
				{"default, 2 threads", 2, nil},
				{"default, 4 threads", 4, nil},
			} {
				func() {
					defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(where.threads))
					m := made(t, opened(t, where.options...), c, 11)
					m.workers.from = 0 // share every loop
					var got []float64
					for i, mix := range []float32{0.7, 1} {
						m.SetMix(mix)
						l, err := m.Backward(background, randomTokens(uint64(i), 256, c.Vocab), randomTokens(9, 256, c.Vocab), 4, 64, 0.5)
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, l)
					}
					if loss == nil {
						loss, grads = got, slices.Clone(m.grads)
						return
					}
					if !slices.Equal(got, loss) {
						t.Errorf("%s: losses %v, want %v", where.name, got, loss)
					}
					same(t, where.name, m.grads, grads)
				}()
			}
		})
	}
}

// TestNothingIsAllocated runs Backward after a first call.
func TestNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	rt := opened(t)
	for name, c := range configs() {
		c.Context, c.Width, c.Hidden = 64, 32, 128
		m := made(t, rt, c, 1)
		tokens := randomTokens(1, 4*64, c.Vocab)
		step := func() {
			m.ZeroGrad()
			if _, err := m.Backward(background, tokens, tokens, 4, 64, 1); err != nil {
				t.Fatal(err)
			}
			if err := m.Refresh(); err != nil {
				t.Fatal(err)
			}
		}
		step()
		step()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%s: %v allocations a step", name, n)
		}
	}
}

func TestLaterTokensChangeNothing(t *testing.T) {
	rt := opened(t)
	for name, c := range configs() {
		m := made(t, rt, c, 12)
		stir(t, m, 13)
		tokens := randomTokens(14, 2*6, c.Vocab)
		before, err := m.Forward(background, tokens, 2, 6)
		if err != nil {
			t.Fatal(err)
		}
		before = slices.Clone(before)
		for at := range 6 {
			changed := slices.Clone(tokens)
			changed[6+at] = (changed[6+at] + 1) % int32(c.Vocab)
			after, err := m.Forward(background, changed, 2, 6)
			if err != nil {
				t.Fatal(err)
			}
			n := (6 + at) * c.Vocab // all of the first sequence, and what comes before in the second
			same(t, name, after[:n], before[:n])
			if slices.Equal(after[n:n+c.Vocab], before[n:n+c.Vocab]) {
				t.Errorf("%s: token %d does not count", name, at)
			}
		}
	}
}

// TestGradientsAddUp checks that gradients of calls add up: two halves are the whole, up to rounding, and ZeroGrad clears.
func TestGradientsAddUp(t *testing.T) {
	rt := opened(t)
	c := small()
	m := made(t, rt, c, 15)
	stir(t, m, 16)
	tokens, targets := randomTokens(17, 4*6, c.Vocab), randomTokens(18, 4*6, c.Vocab)
	if _, err := m.Backward(background, tokens, targets, 4, 6, 1); err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(m.grads)
	m.ZeroGrad()
	for i := range 2 {
		if _, err := m.Backward(background, tokens[i*12:][:12], targets[i*12:][:12], 2, 6, 0.5); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range whole {
		if math.Abs(float64(v-m.grads[i])) > 1e-6 {
			t.Fatalf("gradient %d: %v in one call, %v in two", i, v, m.grads[i])
		}
	}
}

func TestFlipsAndQuantized(t *testing.T) {
	rt := opened(t)
	c := small()
	if _, err := made(t, rt, c, 1).Quantized(); !errors.Is(err, ErrTernary) {
		t.Errorf("a float32 model's ternary tensors: %v", err)
	}
	c.Ternary = true
	m := made(t, rt, c, 19)
	total := 2 * (4*8*8 + 2*8*12)
	if f, n := m.Flips(); f != 0 || n != total {
		t.Errorf("new: %d of %d flips", f, n)
	}
	w := m.layers[1].down.w
	q, err := m.Quantized()
	if err != nil || len(q) != 8 || q[w.Name].Rows != 8 || q[w.Name].Cols != 12 {
		t.Fatalf("%d tensors: %v", len(q), err)
	}
	want, err := rt.Quantize(nil, w.Value, quant.Options{Cols: 12})
	if err != nil || !slices.Equal(want.Codes, q[w.Name].Codes) || !slices.Equal(want.Scales, q[w.Name].Scales) {
		t.Errorf("%s is not the tensor of its weights: %v", w.Name, err)
	}
	signs := 0
	for i, v := range w.Value {
		w.Value[i] = -v
		if q[w.Name].Codes[i] != 0 {
			signs++
		}
	}
	if err := m.Refresh(); err != nil {
		t.Fatal(err)
	}
	if f, n := m.Flips(); f != signs || n != total {
		t.Errorf("%d of %d flips, want %d", f, n, signs)
	}
	m.SetMix(0.5)
	m.SetMix(float32(math.NaN()))
	if f, _ := m.Flips(); f != signs || m.linears[3].mix != 0 {
		t.Errorf("SetMix: %d flips, λ = %v", f, m.linears[3].mix)
	}
	w.Value[3] = float32(math.Inf(1))
	if err := m.Refresh(); !errors.Is(err, ErrLatent) || !errors.Is(err, runtime.ErrNonFinite) || !strings.Contains(err.Error(), w.Name) {
		t.Errorf("an infinite weight: %v", err)
	}
}

// TestMixedWeights checks what multiplies after SetMix alone, for all groupings of scales.
func TestMixedWeights(t *testing.T) {
	rt := opened(t)
	for _, group := range []int{0, quant.PerRow, 5} {
		c := small()
		c.Ternary, c.Group = true, group
		m := made(t, rt, c, 36)
		x := randomTokens(37, 6, c.Vocab)
		for _, mix := range []float32{0.25, 0, 1, 0.75} {
			m.SetMix(mix)
			if _, err := m.Forward(background, x, 1, 6); err != nil {
				t.Fatal(err)
			}
			for _, l := range m.linears {
				q, err := l.codes.Dequantize(nil)
				if err != nil {
					t.Fatal(err)
				}
				want := slices.Clone(l.w.Value)
				for i, v := range want {
					if want[i] = v + float32(mix*(q[i]-v)); mix == 1 {
						want[i] = q[i]
					}
				}
				same(t, l.w.Name, l.weight, want)
			}
		}
	}
}

func TestBadConfigurations(t *testing.T) {
	rt := opened(t)
	for field, set := range map[string]func(*Config){
		"Vocab":               func(c *Config) { c.Vocab = 0 },
		"Context":             func(c *Config) { c.Context = -1 },
		"Layers":              func(c *Config) { c.Layers = 0 },
		"Heads":               func(c *Config) { c.Heads = 3 },
		"Width":               func(c *Config) { c.Width, c.Heads = 1<<20, 1 },
		"Hidden":              func(c *Config) { c.Hidden = 1<<30 + 1 },
		"Activation":          func(c *Config) { c.Activation = "gelu" },
		"QuantizeActivations": func(c *Config) { c.QuantizeActivations = true },
		"Rule":                func(c *Config) { c.Rule = quant.Stochastic },
		"Group":               func(c *Config) { c.Group = 9 },
	} {
		c := small()
		set(&c)
		m, err := New(rt, c, 1)
		var e *ConfigError
		if m != nil || !errors.As(err, &e) || e.Field != field || !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(nil, small(), 1); !errors.Is(err, ErrConfig) {
		t.Errorf("no runtime: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	c := small()
	m := made(t, opened(t), c, 20)
	ok := randomTokens(1, 12, c.Vocab)
	with := func(at int, v int32) []int32 {
		x := slices.Clone(ok)
		x[at] = v
		return x
	}
	for _, bad := range []struct {
		tokens, targets []int32
		batch, length   int
		want            error
		says            string
	}{
		{ok, ok, 0, 6, ErrShape, "batch = 0"},
		{nil, nil, -1, 6, ErrShape, "batch = -1"},
		{ok, ok, 12, 0, ErrShape, "length = 0"},
		{ok[:7], ok[:7], 1, 7, ErrShape, "length = 7"},
		{ok[:11], ok[:11], 2, 6, ErrShape, "11 tokens for 2 sequences of 6"},
		{ok, ok, math.MaxInt, 6, ErrShape, "12 tokens"},
		{ok, ok[:11], 2, 6, ErrShape, "11 targets for 12 tokens"},
		{with(4, 7), ok, 2, 6, ErrToken, "tokens[4] = 7"},
		{with(0, -1), ok, 2, 6, ErrToken, "tokens[0] = -1"},
		{ok, with(11, 1000), 2, 6, ErrToken, "targets[11] = 1000, the vocabulary has 7"},
	} {
		_, err := m.Backward(background, bad.tokens, bad.targets, bad.batch, bad.length, 1)
		_, lossErr := m.Loss(background, bad.tokens, bad.targets, bad.batch, bad.length)
		if !errors.Is(err, bad.want) || !strings.Contains(err.Error(), bad.says) || lossErr.Error() != err.Error() {
			t.Errorf("want %q: %v; %v", bad.says, err, lossErr)
		}
		if !strings.Contains(bad.says, "target") {
			if _, err := m.Forward(background, bad.tokens, bad.batch, bad.length); !errors.Is(err, bad.want) {
				t.Errorf("forward, want %q: %v", bad.says, err)
			}
		}
	}
	for _, scale := range []float32{0, float32(math.NaN()), float32(math.Inf(1))} {
		if _, err := m.Backward(background, ok, ok, 2, 6, scale); !errors.Is(err, ErrArgument) {
			t.Errorf("scale %v: %v", scale, err)
		}
	}
	var e *TokenError
	if _, err := m.Forward(background, with(4, 7), 2, 6); !errors.As(err, &e) || e.Where != "tokens" || e.Index != 4 || e.Token != 7 {
		t.Errorf("%+v", e)
	}
	ended, cancel := context.WithCancel(background)
	cancel()
	if _, err := m.Backward(ended, ok, ok, 2, 6, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if slices.ContainsFunc(m.grads, func(v float32) bool { return v != 0 }) {
		t.Error("a refused call changed gradients")
	}
}

// TestCancelledBetweenOps ends the context in the middle of a pass.
func TestCancelledBetweenOps(t *testing.T) {
	ctx, cancel := context.WithCancel(background)
	calls := 0
	c := small()
	m := made(t, opened(t, runtime.WithObserver(func(runtime.Event) {
		if calls++; calls == 9 {
			cancel()
		}
	})), c, 20)
	x := randomTokens(1, 12, c.Vocab)
	if _, err := m.Backward(ctx, x, x, 2, 6, 1); !errors.Is(err, context.Canceled) || calls != 9 {
		t.Errorf("after %d ops: %v", calls, err)
	}
}

// TestHelpersEnd checks that a model's goroutines go when it does.
func TestHelpersEnd(t *testing.T) {
	defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(3))
	rt := opened(t)
	before := goruntime.NumGoroutine()
	func() {
		c := small()
		c.Width, c.Hidden, c.Context = 64, 128, 64
		for range 5 {
			m := made(t, rt, c, 1)
			m.workers.from = 0
			x := randomTokens(1, 256, c.Vocab)
			if _, err := m.Backward(background, x, x, 4, 64, 1); err != nil {
				t.Fatal(err)
			}
		}
	}()
	for range 200 {
		goruntime.GC()
		if goruntime.NumGoroutine() <= before {
			return
		}
		goruntime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", goruntime.NumGoroutine(), before)
}
