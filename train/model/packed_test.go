// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
)

// packed writes a model to a file and returns its path.
func packed(t testing.TB, m *Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.stn")
	w, err := stn.Create(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Pack(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func stnFile(t testing.TB, path string) *stn.File {
	t.Helper()
	f, err := stn.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// kinds are all the ways in which a packed model differs from another.
func kinds() map[string]Config {
	all := map[string]Config{"float32": small()}
	for _, activation := range []string{ReLU2, SwiGLU} {
		for _, tied := range []bool{false, true} {
			for _, int8s := range []bool{false, true} {
				for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares} {
					for _, group := range []int{0, quant.PerRow, 5} {
						c := small()
						c.Vocab, c.Context = 11, 12
						c.Activation, c.TieEmbeddings, c.Ternary, c.QuantizeActivations, c.Rule, c.Group = activation, tied, true, int8s, rule, group
						all[fmt.Sprintf("%s, tied %v, int8 %v, %v, group %d", activation, tied, int8s, rule, group)] = c
					}
				}
			}
		}
	}
	return all
}

// TestPackedIsTheModel compares all logits, and texts of several seeds that go on past the context and begin with many tokens and with one.
func TestPackedIsTheModel(t *testing.T) {
	rt := opened(t)
	for name, c := range kinds() {
		m := made(t, rt, c, 51)
		stir(t, m, 52)
		k, err := Unpack(rt, c, stnFile(t, packed(t, m)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tokens := randomTokens(53, 2*c.Context, c.Vocab)
		want, err := m.Forward(background, tokens, 2, c.Context)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Forward(background, tokens, 2, c.Context)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%s: logit %d is %v, want %v", name, i, got[i], want[i])
			}
		}
		a, err := m.Loss(background, tokens, tokens, 2, c.Context)
		if b, err2 := k.Loss(background, tokens, tokens, 2, c.Context); err != nil || err2 != nil || a != b {
			t.Errorf("%s: loss %v, want %v: %v, %v", name, b, a, err, err2)
		}
		for seed := range uint64(3) {
			prompt := tokens[:1+10*(seed%2)]
			texts := [2][]int32{}
			for i, generate := range []func() error{
				func() error {
					return m.Generate(background, prompt, 2*c.Context, 0.9, 4, seed, func(v int32) error { texts[0] = append(texts[0], v); return nil })
				},
				func() error {
					return k.Generate(background, prompt, 2*c.Context, 0.9, 4, seed, func(v int32) error { texts[1] = append(texts[1], v); return nil })
				},
			} {
				if err := generate(); err != nil || len(texts[i]) != 2*c.Context {
					t.Fatalf("%s: %d tokens: %v", name, len(texts[i]), err)
				}
			}
			if !slices.Equal(texts[0], texts[1]) {
				t.Errorf("%s, seed %d: %v, want %v", name, seed, texts[1], texts[0])
			}
		}
	}
}

// TestPackedIsSmall holds file and memory of a model that is not tiny against float32.
func TestPackedIsSmall(t *testing.T) {
	rt := opened(t)
	for _, rule := range []quant.Rule{quant.AbsMean, quant.LeastSquares} {
		c := Config{Vocab: 65, Context: 64, Layers: 2, Heads: 4, Width: 128, Hidden: 512, Ternary: true, QuantizeActivations: true, Rule: rule}
		m := made(t, rt, c, 61)
		f := stnFile(t, packed(t, m))
		k, err := Unpack(rt, c, f)
		if err != nil {
			t.Fatal(err)
		}
		ternary, bytes, rest := int64(0), int64(0), int64(0)
		for _, p := range m.Params() {
			i, err := f.Info(p.Name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Ternary {
				ternary, bytes = ternary+int64(len(p.Value)), bytes+i.Bytes()
			} else if rest += 4 * int64(len(p.Value)); i.Bytes() != 4*int64(len(p.Value)) {
				t.Errorf("%s has %d bytes", p.Name, i.Bytes())
			}
		}
		ratio := 4 * float64(ternary) / float64(bytes)
		t.Logf("%v, first weights: ternary tensors × %.2f", rule, ratio)
		if least := map[quant.Rule]float64{quant.AbsMean: 20.1, quant.LeastSquares: 20.6}[rule]; ratio < least {
			t.Errorf("%v: × %.3f, want %v", rule, ratio, least)
		}
		if most := rest + ternary/4 + 4*8; k.Bytes() > most {
			t.Errorf("%d bytes in memory, want at most %d", k.Bytes(), most)
		}
		for _, l := range k.m.linears {
			if l.w.Value != nil || l.w.Grad != nil || l.weight != nil || l.codes.Format != quant.Bits2 {
				t.Errorf("%s has more than its codes", l.w.Name)
			}
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	rt := opened(t)
	c := small()
	c.Ternary = true
	m := made(t, rt, c, 71)
	f := stnFile(t, packed(t, m))
	for _, bad := range []struct {
		says string
		set  func(*Config)
	}{
		{"16 tensors, a model of 1 layers has 10", func(c *Config) { c.Layers = 1 }},
		{"16 tensors, a model of 16777216 layers", func(c *Config) { c.Layers = 1 << 24 }},
		{"16 tensors, a model of 2 layers has 15", func(c *Config) { c.TieEmbeddings = true }},
		{"token_embd.weight has the shape [7 8], not 8×8", func(c *Config) { c.Vocab = 8 }},
		{"position_embd.weight has the shape [6 8], not 7×8", func(c *Config) { c.Context = 7 }},
		{"ffn_up.weight has the shape [12 8], not 13×8", func(c *Config) { c.Hidden = 13 }},
		{"attn_qkv.weight is", func(c *Config) { c.Ternary = false }},
		{"groups of 0", func(c *Config) { c.Group = quant.PerRow }},
	} {
		other := c
		bad.set(&other)
		if k, err := Unpack(rt, other, f); k != nil || !errors.Is(err, ErrPacked) || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%q: %v", bad.says, err)
		}
	}
	bad := c
	bad.Heads = 3
	if _, err := Unpack(rt, bad, f); !errors.Is(err, ErrConfig) {
		t.Errorf("a wrong configuration: %v", err)
	}
	if _, err := Unpack(nil, c, f); !errors.Is(err, ErrConfig) {
		t.Errorf("no runtime: %v", err)
	}
	m.norm.Value[3] = float32(math.NaN())
	if _, err := Unpack(rt, c, stnFile(t, packed(t, m))); !errors.Is(err, ErrPacked) || !strings.Contains(err.Error(), "output_norm.weight[3]") {
		t.Errorf("a NaN: %v", err)
	}
}

// TestDamage flips a bit in each part of a file and cuts it at each: both are found, wherever they are.
func TestDamage(t *testing.T) {
	rt := opened(t)
	c := small()
	c.Ternary, c.QuantizeActivations = true, true
	whole, err := os.ReadFile(packed(t, made(t, rt, c, 81)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.stn")
	try := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := stn.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = Unpack(rt, c, f)
		return err
	}
	if err := try(whole); err != nil {
		t.Fatal(err)
	}
	var e *stn.Error
	for at := 0; at < len(whole); at += 61 {
		damaged := slices.Clone(whole)
		damaged[at] ^= 1 << (at % 8)
		if err := try(damaged); !errors.As(err, &e) {
			t.Errorf("a bit of byte %d of %d flipped: %v", at, len(whole), err)
		}
		if err := try(whole[:at]); !errors.As(err, &e) {
			t.Errorf("%d bytes of %d: %v", at, len(whole), err)
		}
	}
}
