// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/npy"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/safetensors"
	"github.com/setun-compute/setun/quant/stn"
)

var update = flag.Bool("update", false, "write testdata again")

// model is a small one: its tensors have names, sizes and spreads as those of a transformer.
func model(seed uint64) []safetensors.Tensor {
	r := rand.New(rand.NewPCG(seed, 3))
	var list []safetensors.Tensor
	add := func(name string, deviation float64, shape ...int) {
		n := 1
		for _, s := range shape {
			n *= s
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(deviation * r.NormFloat64())
		}
		list = append(list, safetensors.Tensor{Name: name, Shape: shape, Values: x})
	}
	add("model.embed_tokens.weight", 0.03, 64, 256)
	for i := range 2 {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"input_layernorm.weight", 1, 256)
		add(layer+"self_attn.q_proj.weight", 0.02, 256, 256)
		add(layer+"mlp.up_proj.weight", 0.05, 512, 256)
		add(layer+"mlp.down_proj.weight", 0.1*float64(i+1), 256, 512)
		add(layer+"conv.weight", 0.1, 8, 16, 5)
	}
	add("lm_head.weight", 0.02, 64, 256)
	add("scalar", 1)
	return list
}

// save writes a model as .safetensors.
func save(t *testing.T, list []safetensors.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := safetensors.Write(path, list, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs the command.
func start(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

// done runs the command, which must end well, with -json.
func done(t *testing.T, args ...string) *report {
	t.Helper()
	code, stdout, stderr := start(append(args, "-json", "-quiet")...)
	if code != 0 || stderr != "" {
		t.Fatalf("%q: exit code %d: %s", args, code, stderr)
	}
	r := new(report)
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// files lists a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestGolden compares what is printed for a model, as .stn and as .gguf, under a budget, and with what clusters would bring.
func TestGolden(t *testing.T) {
	in, dir := save(t, model(1)), t.TempDir()
	var all strings.Builder
	for _, args := range [][]string{
		{in, filepath.Join(dir, "a.stn"), "-verify", "-cluster", "4"},
		{in, filepath.Join(dir, "b.gguf"), "-verify", "-rule=absmean"},
		{in, filepath.Join(dir, "c.stn"), "-budget", "9x", "-quantize", "*embed*"},
	} {
		code, stdout, stderr := start(append(args, "-quiet")...)
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		fmt.Fprintf(&all, "compress %s\n%s\n", strings.Join(args, " "), stdout)
	}
	text := strings.NewReplacer(dir+string(filepath.Separator), "", filepath.Dir(in)+string(filepath.Separator), "").Replace(all.String())
	text = regexp.MustCompile(`, in \d+\.\d s\n`).ReplaceAllString(text, "\n")
	golden := filepath.Join("testdata", "golden.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(text, "\n"); !slices.Equal(got, strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n")) {
		t.Errorf("the output has changed (-update writes it again):\n%s", text)
	}
}

// TestFigures: what is printed is the sizes of files, and what the file holds is as close to the input as is printed.
func TestFigures(t *testing.T) {
	list := model(2)
	in, out := save(t, list), filepath.Join(t.TempDir(), "x.stn")
	for i, flags := range []string{"", "-levels quinary", "-levels sparse -coding four5", "-levels sparse -rule magnitude", "-rule absmean -coding planes -group 100", "-rule magnitude -coding 2bit", "-group tensor -coding base3",
		"-group tensor -levels quinary -rule magnitude", "-group tensor -levels sparse -rule magnitude", "-rule absmax -coding rans -group tensor", "-keep *mlp* -quantize *embed*", "-budget 8x", "-max-error 0.1"} {
		if testing.Short() && i%4 != 3 {
			continue
		}
		r := done(t, append(strings.Fields(flags), "-verify", "-force", in, out)...)
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		float32s := 0
		for _, x := range list {
			float32s += 4 * len(x.Values)
		}
		if r.Bytes != info.Size() || r.Float32 != int64(float32s) || r.Compression != float64(float32s)/float64(info.Size()) {
			t.Errorf("%s: %d bytes are said to be in the file of %d, %v", flags, r.Bytes, info.Size(), r.Compression)
		}
		if r.Verified == nil || r.Verified.Codes != r.Quantized.Values {
			t.Errorf("%s: %+v of %+v", flags, r.Verified, r.Quantized)
		}
		f, err := stn.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		if f.Metadata()["format"] != "pt" || len(f.Tensors()) != len(list) || len(r.Tensors) != len(list) {
			t.Errorf("%s: %v, %d tensors", flags, f.Metadata(), len(f.Tensors()))
		}
		for i, row := range r.Tensors {
			info, _ := f.Info(list[i].Name)
			if row.Name != list[i].Name || row.Bytes != info.Bytes() {
				t.Errorf("%s: %+v of tensor %q", flags, row, list[i].Name)
			}
			if info.Kind != stn.Quantized {
				continue
			}
			q, err := f.Tensor(row.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := quant.Measure(q, list[i].Values)
			if err != nil {
				t.Fatal(err)
			}
			near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
			if !near(s.Cosine, row.Cosine) || !near(s.Relative, row.Relative) || !near(s.Magnitude, row.Magnitude) || !near(s.Entropy, row.Entropy) || !near(s.Zeros, row.Zeros) {
				t.Errorf("%s: tensor %q: %+v; the file has %+v", flags, row.Name, row.measures, s)
			}
			if r.Budget == nil && row.Rule == "magnitude" && math.Abs(s.Magnitude-1) > 0.002 {
				t.Errorf("%s: tensor %q: magnitude %v", flags, row.Name, s.Magnitude)
			}
		}
		f.Close()
	}
}

// TestRoundTrip: what comes back is code times scale, bit for bit; compressed again it is the same.
func TestRoundTrip(t *testing.T) {
	list := model(3)
	in, dir := save(t, list), t.TempDir()
	packed, back, again := filepath.Join(dir, "a.stn"), filepath.Join(dir, "b.safetensors"), filepath.Join(dir, "c.stn")
	done(t, in, packed)
	r := done(t, "-decompress", packed, back)
	info, err := os.Stat(back)
	if err != nil || info.Size() != r.Bytes {
		t.Errorf("%v bytes, said to be %d (%v)", info.Size(), r.Bytes, err)
	}
	f, err := safetensors.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := stn.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, info := range s.Tensors() {
		got, err := f.Floats(info.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []float32
		if info.Kind == stn.Quantized {
			q, err := s.Tensor(info.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, _ = q.Dequantize(nil)
		} else {
			want, _ = s.Floats(info.Name, nil)
		}
		if !slices.Equal(got, want) || !slices.Equal(f.Tensors[i].Shape, list[i].Shape) {
			t.Errorf("tensor %q came back otherwise", info.Name)
		}
	}
	if f.Metadata["format"] != "pt" {
		t.Errorf("metadata %v", f.Metadata)
	}
	done(t, back, again)
	a, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(again); err != nil || !bytes.Equal(a, b) {
		t.Errorf("compressed again: %d bytes, other than the %d before (%v)", len(b), len(a), err)
	}
}

// TestNpy: one matrix, and back.
func TestNpy(t *testing.T) {
	dir := t.TempDir()
	in, packed, back := filepath.Join(dir, "w.npy"), filepath.Join(dir, "w.stn"), filepath.Join(dir, "v.npy")
	x := model(4)[2].Values
	if err := npy.WriteFile(in, x, 4, 64, 256); err != nil {
		t.Fatal(err)
	}
	r := done(t, in, packed, "-levels", "quinary")
	if len(r.Tensors) != 1 || r.Tensors[0].Name != "w" || r.Tensors[0].Levels != "quinary" || !slices.Equal(r.Tensors[0].Shape, []int64{4, 64, 256}) {
		t.Errorf("%+v", r.Tensors)
	}
	done(t, "-decompress", packed, back)
	f, err := npy.OpenFloats(context.Background(), back)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := 0.0
	for i, v := range f.Values {
		e += (float64(v) - float64(x[i])) * (float64(v) - float64(x[i]))
	}
	if want := r.Tensors[0].Relative; !slices.Equal(f.Shape, []int{4, 64, 256}) || math.Abs(e/(0.02*0.02*65536)-want) > 0.01 {
		t.Errorf("shape %v, error %v, %v expected", f.Shape, e/(0.02*0.02*65536), want)
	}
}

// TestBudget: the file is never larger, and nearly as large; more bytes never give more error.
func TestBudget(t *testing.T) {
	in, out := save(t, model(6)), filepath.Join(t.TempDir(), "x.stn")
	last := math.Inf(1)
	ratios, errors := []float64{12, 9, 6, 4, 3}, []float64{0.25, 0.15, 0.05}
	if testing.Short() {
		ratios, errors = ratios[1:3], errors[:1]
	}
	for _, ratio := range ratios {
		r := done(t, in, out, "-force", "-verify", "-budget", fmt.Sprint(ratio, "x"))
		limit := int64(float64(r.Float32) / ratio)
		if r.Bytes > limit || float64(r.Bytes) < 0.8*float64(limit) || r.Budget == nil || r.Budget.Bytes != limit || r.Budget.Relative > last {
			t.Errorf("%vx: %d bytes of %d, %+v after an error of %v", ratio, r.Bytes, limit, r.Budget, last)
		}
		last = r.Budget.Relative
	}
	for _, e := range errors {
		r := done(t, in, out, "-force", "-max-error", fmt.Sprint(e))
		if r.Budget.Relative > e || r.Budget.Relative < e/2 || r.Budget.MaxError != e {
			t.Errorf("error %v: %+v", e, r.Budget)
		}
	}
	if code, _, stderr := start(in, out, "-force", "-quiet", "-budget", "10kB"); code != 1 || !strings.Contains(stderr, "a file of 10000 bytes is too small a budget: the least possible is about ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := start(in, out, "-force", "-quiet", "-max-error", "1e-9", "-levels", "sparse"); code != 1 || !strings.Contains(stderr, "is too small a budget: the least possible is about ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestHistogram(t *testing.T) {
	in, dir := save(t, model(7)), t.TempDir()
	picture := filepath.Join(dir, "h.png")
	done(t, in, filepath.Join(dir, "x.stn"), "-budget", "9x", "-histogram", picture)
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, err := png.Decode(f); err != nil || p.Bounds().Dx() != 1350 {
		t.Errorf("picture: %v", err)
	}
}

// TestJSON: the names are an interface.
func TestJSON(t *testing.T) {
	in, out := save(t, model(8)), filepath.Join(t.TempDir(), "x.stn")
	code, stdout, stderr := start(in, out, "-json", "-quiet", "-verify", "-cluster", "8", "-budget", "9x", "-group", "row")
	if code != 0 {
		t.Fatal(stderr)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		t.Fatal(err)
	}
	keys := func(v any) string {
		var names []string
		for k := range v.(map[string]any) {
			names = append(names, k)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	first := func(v any) any { return v.([]any)[2] } // the attention's projection
	for got, want := range map[string]string{
		keys(m):                        "budget bytes clusters compression float32_bytes input input_bytes output quantized seconds tensors verified",
		keys(first(m["tensors"])):      "bits bytes coding compression cosine entropy group levels magnitude max_error name relative rule shape zeros",
		keys(m["quantized"]):           "bytes compression cosine entropy levels magnitude max_error relative tensors values zeros",
		keys(m["budget"]):              "bound bytes gap lambda optimal relative",
		keys(m["verified"]):            "codes max_error scales values worst",
		keys(m["clusters"].([]any)[0]): "brings bytes clustered clusters name relative relative_then scale_bits",
	} {
		if got != want {
			t.Errorf("keys %s; want %s", got, want)
		}
	}
}
