// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/npy"
	"github.com/setun-compute/setun/quant/gguf"
	"github.com/setun-compute/setun/quant/safetensors"
	"github.com/setun-compute/setun/quant/stn"
)

func TestDamagedInput(t *testing.T) {
	in := save(t, model(1))
	whole, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	i, _ := f.Find("model.layers.0.mlp.up_proj.weight")
	at := f.Tensors[i].Offset + 4*(256*300+7)
	norm, _ := f.Find("model.layers.1.input_layernorm.weight")
	normAt := f.Tensors[norm].Offset
	f.Close()
	set := func(at int64, v float64) []byte {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(b[at:], math.Float32bits(float32(v)))
		return b
	}
	zero := save(t, []safetensors.Tensor{{Name: "none", Shape: []int{3, 0}}})
	none, err := os.ReadFile(zero)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		out  string
		says []string
	}{
		"cut":           {whole[:len(whole)-5], "x.stn", []string{in, "byte ", "not a valid safetensors file"}},
		"text":          {[]byte("hello, these are no tensors"), "x.stn", []string{in, "byte ", "not a valid safetensors file"}},
		"NaN":           {set(at, math.NaN()), "x.stn", []string{in, `tensor "model.layers.0.mlp.up_proj.weight": byte `, "row 300, column 7 = NaN: not a finite number"}},
		"infinity":      {set(at, math.Inf(-1)), "x.gguf", []string{in, `tensor "model.layers.0.mlp.up_proj.weight": byte `, "row 300, column 7 = -Inf: not a finite number"}},
		"NaN in a norm": {set(normAt, math.NaN()), "x.stn", []string{in, `tensor "model.layers.1.input_layernorm.weight": byte `, "row 0, column 0 = NaN"}},
		"no values":     {none, "x.stn", []string{in, `tensor "none": byte `, `its shape is [3 0]: it has no values; leave it out with -drop "none"`}},
		"integers":      {bytes.Replace(whole, []byte(`"scalar":{"dtype":"F32"`), []byte(`"scalar":{"dtype":"I32"`), 1), "x.stn", []string{in, `tensor "scalar": byte `, "its type is I32"}},
		"no such type":  {bytes.Replace(whole, []byte(`"scalar":{"dtype":"F32"`), []byte(`"scalar":{"dtype":"X32"`), 1), "x.stn", []string{in, "X32"}},
	} {
		if err := os.WriteFile(in, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, flags := range [][]string{nil, {"-budget", "9x"}} {
			code, stdout, stderr := start(append(flags, in, filepath.Join(dir, c.out), "-quiet")...)
			if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s: exit code %d, %q, %s", name, code, stdout, stderr)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("%s: %q is missing in: %s", name, s, stderr)
				}
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("%s: left behind: %v", name, left)
			}
		}
	}
}

// TestDamagedOthers: the other formats' errors come through, with what they are about.
func TestDamagedOthers(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	quantized := filepath.Join(dir, "q4.gguf")
	w, err := gguf.Create(quantized, nil, []gguf.Info{{Name: "blk.0.w", Dims: []int64{256, 2}, Type: 12}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteBytes(make([]byte, 288)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long.npy")
	if err := npy.WriteFile(long, make([]float32, 8), 2, 1, 1, 2, 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, out, flags, says string }{
		{write("x.gguf", []byte("GGUX")), "x.stn", "", "x.gguf: byte "},
		{write("x.npy", []byte("\x93NUMPY\x01\x00\x01\x00")), "x.stn", "", "x.npy: byte "},
		{write("x.safetensors.index.json", []byte("{")), "x.stn", "", "x.safetensors.index.json: byte 1"},
		{write("x.stn", []byte("STN")), "x.safetensors", "-decompress", "x.stn: byte 0"},
		{filepath.Join(dir, "nowhere.gguf"), "x.stn", "", "nowhere.gguf"},
		{quantized, "x.stn", "", `q4.gguf: tensor "blk.0.w": byte 96: its type is Q4_K`},
		{quantized, "x.stn", "-drop *", "q4.gguf: it has no tensors, or none is left"},
		{long, "x.gguf", "", `tensor "long": 5 dimensions`},
	} {
		code, stdout, stderr := start(append(strings.Fields(c.flags), c.in, filepath.Join(out, c.out), "-quiet")...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, ".compress.") {
			t.Errorf("%s: exit code %d, %q, %s; want %q", c.in, code, stdout, stderr, c.says)
		}
		if left := files(t, out); len(left) > 0 {
			t.Errorf("%s: left behind: %v", c.in, left)
		}
	}
	// What is not read can be copied from .gguf to .gguf.
	if r := done(t, quantized, filepath.Join(out, "x.gguf")); r.Tensors[0].Levels != "q4_k" || r.Tensors[0].Bytes != 288 {
		t.Errorf("%+v", r.Tensors)
	}
}

func TestOutput(t *testing.T) {
	in, dir := save(t, model(2)), t.TempDir()
	out := filepath.Join(dir, "x.stn")
	if err := os.MkdirAll(dir+".stn", 0o700); err != nil {
		t.Fatal(err)
	}
	done(t, in, filepath.Join(dir, "same.gguf"))
	done(t, in, filepath.Join(dir, "many.stn"))
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a folder":        {[]string{in, dir + ".stn"}, "is a folder"},
		"no folder":       {[]string{in, filepath.Join(dir, "no", "x.stn")}, "no"},
		"the input":       {[]string{"-force", filepath.Join(dir, "same.gguf"), filepath.Join(dir, "same.gguf")}, "is the input"},
		"no picture":      {[]string{in, out, "-histogram", filepath.Join(in, "h.png")}, "h.png"},
		"budget too low":  {[]string{in, out, "-budget", "1kB"}, "too small a budget"},
		"many tensors":    {[]string{"-decompress", filepath.Join(dir, "many.stn"), filepath.Join(dir, "x.npy")}, "it has 13 tensors"},
		"nothing to plan": {[]string{in, out, "-keep", "*", "-budget", "9x"}, "no tensor is to be quantized"},
	} {
		code, stdout, stderr := start(append(c.args, "-quiet")...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %s", name, code, stdout, stderr)
		}
		if left := files(t, dir); len(left) != 2 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
	os.Remove(dir + ".stn")
	done(t, in, out)
	before, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := start(in, out, "-quiet", "-levels", "quinary"); code != 1 || !strings.Contains(stderr, "is there already; name another file, or replace it with -force") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if after, err := os.ReadFile(out); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was replaced without -force (%v)", err)
	}
}

// TestPicture: it replaces neither input nor output, whatever name they are called by, and others only with -force.
func TestPicture(t *testing.T) {
	in, dir := save(t, model(2)[:3]), t.TempDir()
	out, linked, other, folder := filepath.Join(dir, "x.stn"), filepath.Join(dir, "in.png"), filepath.Join(dir, "other.png"), filepath.Join(dir, "folder")
	there := filepath.Join(dir, "there.stn")
	done(t, in, there)
	for from, to := range map[string]string{in: linked, dir: folder, there: filepath.Join(dir, "out.png")} {
		if err := os.Symlink(from, to); err != nil {
			t.Skip(err)
		}
	}
	if err := os.WriteFile(other, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	input, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(filepath.Dir(in), "model.safetensors.index.json")
	if err := os.WriteFile(index, []byte(`{"weight_map":{"model.layers.0.self_attn.q_proj.weight":"model.safetensors","model.embed_tokens.weight":"model.safetensors","model.layers.0.input_layernorm.weight":"model.safetensors"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	for _, c := range []struct{ in, out, picture, force, says string }{
		{in, out, linked, "-force", "in.png is the input"},
		{index, out, in, "-force", "model.safetensors is the input"},
		{in, there, filepath.Join(dir, "out.png"), "-force", "out.png is the output"},
		{in, out, filepath.Join(folder, "x.stn"), "-force", "x.stn is the output"},
		{in, out, folder, "-force", "folder is a folder"},
		{in, out, other, "-force=false", "is there already; name another picture, or replace it with -force"},
	} {
		code, stdout, stderr := start(c.in, c.out, "-histogram", c.picture, c.force, "-quiet")
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %s", c.picture, code, stdout, stderr)
		}
		if left := files(t, dir); !slices.Equal(left, before) {
			t.Errorf("%s: left behind: %v", c.picture, left)
		}
	}
	if after, err := os.ReadFile(in); err != nil || !bytes.Equal(input, after) {
		t.Errorf("the input was replaced (%v)", err)
	}
	if after, err := os.ReadFile(other); err != nil || string(after) != "mine" {
		t.Errorf("a file was replaced without -force (%v)", err)
	}
	done(t, in, out, "-histogram", other, "-force")
	if after, err := os.ReadFile(other); err != nil || !bytes.HasPrefix(after, []byte("\x89PNG")) {
		t.Errorf("there is no picture (%v)", err)
	}
}

// TestUnreadable: a .safetensors file that readers refuse is not written.
func TestUnreadable(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	for _, meta := range []map[string]string{nil, {"format": "pt"}} {
		in := filepath.Join(dir, "x.stn")
		w, err := stn.Create(in, meta)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"__metadata__", "w"} {
			if err := w.AddFloats(name, []int64{2}, stn.F32, []float32{1, 2}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := start("-decompress", in, filepath.Join(out, "x.safetensors"), "-quiet")
		if left := files(t, out); code != 1 || stdout != "" || !strings.Contains(stderr, `x.stn: tensor "__metadata__": a .safetensors file has its metadata under that name`) || len(left) > 0 {
			t.Errorf("%v: exit code %d, %q, %s; left behind: %v", meta, code, stdout, stderr, left)
		}
		done(t, "-decompress", in, filepath.Join(dir, "x.safetensors"), "-drop", "__metadata__", "-force")
		done(t, "-decompress", in, filepath.Join(dir, "x.npy"), "-drop", "w", "-force") // which has no names
	}
	long := slices.Repeat([]stn.Info{{Name: strings.Repeat("<", stn.MaxName), Shape: []int64{1}}}, 33000) // six bytes each in JSON
	if _, err := safetensorsHeader("x.stn", long, nil); err == nil || !strings.Contains(err.Error(), "x.stn: the header of a .safetensors file would be above 100000000 bytes") {
		t.Errorf("a header of more than 100 MB: %v", err)
	}
	if _, err := safetensorsHeader("x.stn", long[:30000], nil); err != nil {
		t.Error(err)
	}
}

// stopper ends a context when a text is written.
type stopper struct {
	bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (s *stopper) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.text)) {
		s.cancel()
	}
	return s.Buffer.Write(p)
}

func TestInterrupt(t *testing.T) {
	in := save(t, model(3))
	packed := filepath.Join(t.TempDir(), "x.stn")
	done(t, in, packed)
	for _, c := range []struct{ flags, at string }{
		{"", "opening"}, {"", "writing model.layers.0"}, {"-verify", "verifying model.layers.1"}, {"-cluster 4", "clustering"}, {"-budget 9x", "measuring model.layers.1"}, {"-decompress", "reading model.layers.0"},
	} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		stderr := &stopper{text: c.at, cancel: cancel}
		args := append(strings.Fields(c.flags), in, filepath.Join(dir, "x.stn"))
		if c.flags == "-decompress" {
			args = []string{c.flags, packed, filepath.Join(dir, "x.safetensors")}
		}
		var stdout bytes.Buffer
		code := run(ctx, args, &stdout, stderr)
		if code != exitInterrupted || stdout.Len() > 0 || !strings.HasSuffix(stderr.String(), "compress: interrupted, nothing was written\n") {
			t.Errorf("%s at %q: exit code %d, %q, %s", c.flags, c.at, code, stdout.String(), stderr.String())
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%s at %q: left behind: %v", c.flags, c.at, left)
		}
		cancel()
	}
}

func TestUsage(t *testing.T) {
	for args, says := range map[string]string{
		"":                                         "0 files given",
		"a.npy":                                    "1 files given",
		"a.npy b.stn c":                            "3 files given",
		"a.bin b.stn":                              "a.bin: .safetensors",
		"a.json b.stn":                             "a.json: .safetensors",
		"a.npy b.zip":                              "b.zip: .stn and .gguf files are written",
		"a.npy b.stn -levels binary":               `-levels "binary" is not known`,
		"a.npy b.stn -rule stochastic":             `-rule "stochastic" is not known`,
		"a.npy b.stn -coding zip":                  `-coding "zip" is not known`,
		"a.npy b.stn -group 0":                     `-group "0"`,
		"a.npy b.stn -group many":                  `-group "many"`,
		"a.npy b.stn -budget 12y":                  `-budget "12y"`,
		"a.npy b.stn -budget 0":                    `-budget "0"`,
		"a.npy b.stn -budget -3MB":                 `-budget "-3MB"`,
		"a.npy b.stn -budget NaNx":                 `-budget "NaNx"`,
		"a.npy b.stn -budget 9x -max-error 1":      "exclude each other",
		"a.npy b.stn -max-error 1":                 "-max-error 1 is not between",
		"a.npy b.stn -max-error NaN":               "-max-error NaN is not between",
		"a.npy b.stn -cluster 0":                   "-cluster 0 is not positive",
		"a.npy b.gguf -cluster 4":                  "-cluster: a .gguf file has a scale for each 256 values",
		"a.npy b.stn -histogram ./a.npy":           "-histogram ./a.npy is the input",
		"a.npy b.stn -histogram ./b.stn -force":    "-histogram ./b.stn is the output",
		"a.npy b.stn -keep [":                      "not a pattern",
		"a.npy b.stn -levels sparse -rule absmean": "does not find the scale of sparse codes",
		"a.npy b.stn -levels quinary -coding 2bit": "does not hold quinary codes",
		"a.npy b.stn -coding four5":                "four5 holds sparse codes only",
		"a.npy b.stn -levels sparse -rule least-squares -coding classes": "classes holds ternary codes only",
		"a.npy b.gguf -levels quinary":                                   ".gguf has ternary codes only",
		"a.npy b.gguf -group 128":                                        "a scale for each 256 values",
		"a.npy b.gguf -coding rans":                                      "-coding rans: .gguf has",
		"a.npy b.stn -demo cauchy":                                       "-demo makes",
		"a.gguf b.stn -demo gaussian":                                    "-demo makes",
		"-decompress a.npy b.stn":                                        "a.npy: .stn files are decompressed",
		"-decompress a.stn b.gguf":                                       "b.gguf: .safetensors and .npy files are written",
		"-decompress a.stn b.npy -verify":                                "-verify has no meaning with -decompress",
	} {
		code, stdout, stderr := start(strings.Fields(args)...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit code %d, %q, %s; want %q", args, code, stdout, stderr, says)
		}
	}
	if code, _, stderr := start("-h"); code != 0 || !strings.Contains(stderr, "usage: compress [flags] IN") || !strings.Contains(stderr, "-max-error") {
		t.Errorf("-h: exit code %d, %s", code, stderr)
	}
}

// TestProgress: elsewhere than on a terminal, a plain line a tensor.
func TestProgress(t *testing.T) {
	code, _, stderr := start(save(t, model(4)), filepath.Join(t.TempDir(), "x.stn"))
	if code != 0 || strings.ContainsAny(stderr, "\r\x1b") || strings.Count(stderr, "writing ") != 13 || !strings.Contains(stderr, " MB/s, ") || !strings.Contains(stderr, "writing scalar: 100 %") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestAfterAKill: what a run leaves that was killed is gone after the next one.
func TestAfterAKill(t *testing.T) {
	in, out := save(t, model(1)), t.TempDir()
	left := filepath.Join(out, ".compress.7")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".lock", "x.stn", ".x.stn.1.tmp"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done(t, in, filepath.Join(out, "x.stn"))
	if names := files(t, out); !slices.Equal(names, []string{"x.stn"}) {
		t.Errorf("%q", names)
	}
}
