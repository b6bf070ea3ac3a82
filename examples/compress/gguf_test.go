// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/safetensors"
)

// TestGGUF: types, keys, and codes that are found again.
func TestGGUF(t *testing.T) {
	in, dir := save(t, model(5)), t.TempDir()
	one, two, three, four := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "b.gguf"), filepath.Join(dir, "c.stn"), filepath.Join(dir, "d.gguf")
	done(t, in, one, "-verify")
	f, err := gguf.Open(one)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]gguf.Type{"model.embed_tokens.weight": gguf.F16, "model.layers.0.input_layernorm.weight": gguf.F32, "model.layers.1.mlp.down_proj.weight": gguf.TQ1_0, "model.layers.0.conv.weight": gguf.F16, "scalar": gguf.F32}
	for name, want := range types {
		if i, ok := f.Find(name); !ok || f.Tensors[i].Type != want {
			t.Errorf("%s: %v, want %v", name, f.Tensors[i].Type, want)
		}
	}
	if k, ok := f.Key("format"); !ok || k.Value() != "pt" {
		t.Errorf("the key is %v", k.Value())
	}
	i, _ := f.Find("model.layers.0.mlp.up_proj.weight")
	want, err := f.Floats(i, nil)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	// From there to the other type, to our own, and under a budget: the same values.
	done(t, one, two, "-coding", "2bit", "-verify")
	r := done(t, one, three, "-verify")
	for _, row := range r.Tensors {
		if row.Relative != 0 && !strings.HasSuffix(row.Name, "conv.weight") {
			t.Errorf("%s: codes of TQ1_0 became others: error %v", row.Name, row.Relative)
		}
	}
	done(t, one, four, "-budget", "1.5x", "-verify")
	g, err := gguf.Open(two)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	i, _ = g.Find("model.layers.0.mlp.up_proj.weight")
	if got, err := g.Floats(i, nil); err != nil || g.Tensors[i].Type != gguf.TQ2_0 || !slices.Equal(got, want) {
		t.Errorf("%v has other values (%v)", g.Tensors[i].Type, err)
	}
	if k, ok := g.Key("format"); !ok || k.Value() != "pt" {
		t.Errorf("the key became %v", k.Value())
	}
}

// TestRuleOfTernary: codes of TQ1_0 are found again, unless another rule is asked for.
func TestRuleOfTernary(t *testing.T) {
	dir := t.TempDir()
	in, packed := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "b.stn")
	done(t, save(t, model(5)[2:3]), in)
	for _, c := range []struct {
		flags, rule string
		group       int
	}{{"-quiet", "least-squares", 256}, {"-rule=absmax", "absmax", 256}, {"-rule=magnitude", "magnitude", 256}} {
		r := done(t, in, packed, "-force", c.flags)
		if got := r.Tensors[0]; got.Rule != c.rule || got.Group != c.group {
			t.Errorf("%s: %s with groups of %d", c.flags, got.Rule, got.Group)
		}
	}
}

// TestKeptInfinity: F16 has infinities, but not the large values beside one.
func TestKeptInfinity(t *testing.T) {
	inf := float32(math.Inf(-1))
	for _, c := range []struct {
		large float32
		want  string
	}{{65520, "f32"}, {-1e9, "f32"}, {65504, "f16"}} {
		x := make([]float32, 128)
		x[3], x[70] = inf, c.large
		in := save(t, []safetensors.Tensor{{Name: "w", Shape: []int{2, 64}, Values: x}})
		for _, out := range []string{"x.stn", "x.gguf"} {
			r := done(t, in, filepath.Join(t.TempDir(), out), "-keep", "w", "-verify")
			if got := r.Tensors[0].Levels; !strings.EqualFold(got, c.want) {
				t.Errorf("%v beside an infinity is %s in %s; want %s", c.large, got, out, c.want)
			}
		}
	}
}

// TestVerifyCopied: -verify finds a byte of a copied tensor that has changed.
func TestVerifyCopied(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	in := filepath.Join(dir, "a.gguf")
	w, err := gguf.Create(in, nil, []gguf.Info{{Name: "blk.0.w", Dims: []int64{256, 2}, Type: 12}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteBytes(bytes.Repeat([]byte("0123456789ab"), 24)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r := done(t, in, filepath.Join(dir, "b.gguf"), "-verify"); r.Verified.Values != 512 {
		t.Errorf("%+v", r.Verified)
	}
	o, err := parse([]string{in, filepath.Join(dir, "c.gguf")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := openSource(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	j := &job{o: o, src: src, list: src.tensors(), e: &encoder{src: src, p: newProgress(nil, true)}}
	if j.out, err = newOutput(o.in, o.out, false); err != nil {
		t.Fatal(err)
	}
	defer j.out.discard()
	if j.choices, err = choose(o, src, j.list); err != nil {
		t.Fatal(err)
	}
	if err := j.write(ctx); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(j.out.file())
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-100] ^= 1
	if err := os.WriteFile(j.out.file(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := j.verify(ctx); err == nil || !strings.Contains(err.Error(), `tensor "blk.0.w": its 288 bytes are not those of the input`) {
		t.Errorf("a changed byte: %v", err)
	}
}
