// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/data"
	"github.com/setun-compute/setun/train/model"
)

// plain is a short run without what small adds to a step.
func plain(path string) Config {
	c := small(path)
	c.Radius, c.Clusters, c.Aux, c.DataClusters, c.Curriculum, c.Accumulate, c.Steps = 0, 0, false, 0, false, 1, 12
	return c
}

// tokensOf generates by a file.
func tokensOf(t testing.TB, rt *runtime.Runtime, path string, o GenerateOptions) (tokens []int32, text string) {
	t.Helper()
	l, err := OpenModel(rt, path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := l.Generate(t.Context(), o, func(token int32, piece []byte) error {
		tokens = append(tokens, token)
		b.Write(piece)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return tokens, b.String()
}

// TestModelFileIsTheCheckpoint trains a little in every combination and generates from both files.
func TestModelFileIsTheCheckpoint(t *testing.T) {
	path, rt := text(t), open(t)
	for i := range 32 {
		c := plain(path)
		set := func(bit int) bool { return i>>bit&1 == 1 }
		c.Int8, c.Tied, c.Steps = set(0), set(1), 4
		if set(2) {
			c.Activation = "swiglu"
		}
		if set(3) {
			c.Rule = "least-squares"
		}
		if set(4) {
			c.Granularity, c.Vocabulary = "row", "byte"
		}
		if i == 31 {
			c.Ternary, c.Int8 = false, false
		}
		folder := t.TempDir()
		s, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Sample: 5})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(folder, modelFile)); err != nil || s.Model == nil || s.Model.Bytes != info.Size() || s.Model.Ratio <= 0.9 {
			t.Fatalf("%+v, %v", s.Model, err)
		}
		for seed := range uint64(3) {
			o := GenerateOptions{Prompt: "line 4"[:6*(seed%2)], Tokens: 40, Temperature: 1, Top: 9 * int(seed), Seed: seed}
			got, said := tokensOf(t, rt, filepath.Join(folder, modelFile), o)
			want, wanted := tokensOf(t, rt, filepath.Join(folder, checkpointFile), o)
			if !slices.Equal(got, want) || said != wanted || len(got) != 40 {
				t.Fatalf("%+v, seed %d: %q, want %q", c, seed, said, wanted)
			}
		}
		if _, said := tokensOf(t, rt, filepath.Join(folder, modelFile), GenerateOptions{Tokens: 5, Temperature: 0.8, Top: 40, Seed: c.Seed}); said != s.Sample {
			t.Errorf("the sample was %q, the file says %q", s.Sample, said)
		}
		// What Export makes of the checkpoint is the same file.
		again := filepath.Join(t.TempDir(), "again.stn")
		if m, err := Export(rt, filepath.Join(folder, checkpointFile), again); err != nil || *m != *s.Model {
			t.Errorf("%+v, want %+v: %v", m, s.Model, err)
		}
		a, errA := os.ReadFile(filepath.Join(folder, modelFile))
		b, errB := os.ReadFile(again)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("exported again it differs: %v, %v", errA, errB)
		}
	}
}

// TestModelFileIsSmall: the ternary tensors of a model of the default width take less than five codes a byte would.
func TestModelFileIsSmall(t *testing.T) {
	c := plain(text(t))
	c.Layers, c.Heads, c.Width, c.Context, c.Steps, c.Rule = 2, 4, 128, 16, 3, "least-squares"
	s, _, err := Run(t.Context(), open(t), c, Options{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Model.TernaryRatio < 20.6 {
		t.Errorf("× %.2f", s.Model.TernaryRatio)
	}
	shape := c.shape(40)
	all, linear := shape.Parameters()
	if _, l := shape.Parameters(); int(l) != s.Ternary || linear != int64(2*12*128*128) || all <= linear {
		t.Errorf("%d of %d parameters are ternary, the summary says %d of %d", linear, all, s.Ternary, s.Parameters)
	}
	if most := 4*float64(s.Parameters-s.Ternary) + float64(s.Ternary)/5 + 16<<10; float64(s.Model.Bytes) > most {
		t.Errorf("%d bytes, want at most %.0f", s.Model.Bytes, most)
	}
}

// TestNoModelBeforeItIsTernary: a run that stopped in its ramp has no model file, not even an older one, but its checkpoint generates.
func TestNoModelBeforeItIsTernary(t *testing.T) {
	c, rt, folder := plain(text(t)), open(t), t.TempDir()
	c.Start, c.Ramp = 0.25, 0.5
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder}); err != nil {
		t.Fatal(err)
	}
	s, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Stop: 6})
	if err != nil || s.Model != nil {
		t.Fatalf("%+v, %v", s.Model, err)
	}
	if _, err := os.Stat(filepath.Join(folder, modelFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a model file: %v", err)
	}
	checkpoint := filepath.Join(folder, checkpointFile)
	if got, _ := tokensOf(t, rt, checkpoint, GenerateOptions{Tokens: 5, Temperature: 1}); len(got) != 5 {
		t.Errorf("%d tokens", len(got))
	}
	if _, err := Export(rt, checkpoint, filepath.Join(folder, "x.stn")); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), "step 6") {
		t.Errorf("export: %v", err)
	}
}

func TestPromptsRefused(t *testing.T) {
	c, rt, folder := plain(text(t)), open(t), t.TempDir()
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{modelFile, checkpointFile} {
		l, err := OpenModel(rt, filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		emit := func(int32, []byte) error { t.Error("emitted"); return nil }
		for _, bad := range []struct {
			o    GenerateOptions
			want error
			says string
		}{
			{GenerateOptions{Prompt: "line Ж", Tokens: 1}, ErrPrompt, "'Ж' at byte 5"},
			{GenerateOptions{Prompt: "line \xff", Tokens: 1}, data.ErrUnknown, "not UTF-8"},
			{GenerateOptions{Prompt: "seventeen letters", Tokens: 1}, ErrPrompt, "17 tokens, the model's context 16"},
			{GenerateOptions{Tokens: 1, Temperature: -1}, model.ErrArgument, "temperature"},
			{GenerateOptions{Tokens: -1}, model.ErrArgument, "n = -1"},
			{GenerateOptions{Tokens: 1, Top: -1}, model.ErrArgument, "topK"},
		} {
			if err := l.Generate(t.Context(), bad.o, emit); !errors.Is(err, bad.want) || !strings.Contains(err.Error(), bad.says) {
				t.Errorf("%s: %+v: %v", name, bad.o, err)
			}
		}
		if err := l.Generate(t.Context(), GenerateOptions{}, nil); !errors.Is(err, model.ErrArgument) {
			t.Errorf("no emit: %v", err)
		}
	}
}

// rewrite copies an stn file with other metadata, and without a tensor.
func rewrite(t *testing.T, from string, change func(metadata map[string]string), without string) string {
	t.Helper()
	f, err := stn.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	metadata := f.Metadata()
	change(metadata)
	path := filepath.Join(t.TempDir(), "rewritten.stn")
	w, err := stn.Create(path, metadata)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Tensors() {
		if i.Name == without {
			continue
		}
		if i.Kind == stn.Quantized {
			q, err := f.Tensor(i.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = w.Add(i.Name, i.Shape, q, i.Coding)
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		v, err := f.Floats(i.Name, nil)
		if err == nil {
			err = w.AddFloats(i.Name, i.Shape, i.Kind, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFilesRefused: other files, cut ones, damaged ones, and such whose checksums are right while their parts do not fit together.
func TestFilesRefused(t *testing.T) {
	c, rt, folder := plain(text(t)), open(t), t.TempDir()
	c.Layers = 2
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder}); err != nil {
		t.Fatal(err)
	}
	refused := func(path, says string, want ...error) {
		t.Helper()
		l, err := OpenModel(rt, path)
		for _, w := range append(want, ErrModel) {
			if l != nil || !errors.Is(err, w) || !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %v", says, err)
			}
		}
	}
	write := func(b []byte) string {
		path := filepath.Join(folder, "other")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := OpenModel(rt, filepath.Join(folder, "nowhere.stn")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrModel) {
		t.Errorf("no file: %v", err)
	}
	refused(write(nil), "0 bytes", stn.ErrFormat)
	refused(write(bytes.Repeat([]byte("text "), 100)), "magic string", stn.ErrFormat)
	refused(folder, "not a regular file")
	for _, name := range []string{modelFile, checkpointFile} {
		whole, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		for part := range 16 {
			at := part * len(whole) / 16
			refused(write(whole[:at]), "")
			damaged := slices.Clone(whole)
			damaged[at+part] ^= 1 << (part % 8)
			refused(write(damaged), "byte")
		}
	}
	packed, checkpoint := filepath.Join(folder, modelFile), filepath.Join(folder, checkpointFile)
	with := func(key, was, is string) func(map[string]string) {
		return func(m map[string]string) {
			if !strings.Contains(m[key], was) {
				t.Errorf("%s has no %s: %s", key, was, m[key])
			}
			m[key] = strings.Replace(m[key], was, is, 1)
		}
	}
	nothing := func(map[string]string) {}
	for _, bad := range []struct {
		from, without, says string
		change              func(map[string]string)
	}{
		{packed, "", "names no configuration", func(m map[string]string) { clear(m) }},
		{packed, "", "configuration", with(keyModel, "{", "[")},
		{packed, "", "unknown field", with(keyModel, "heads", "hats")},
		{packed, "", "follows", with(keyModel, "}", "} 1")},
		{packed, "", "Heads", with(keyModel, `"heads":2`, `"heads":3`)},
		{packed, "", "tensors", with(keyModel, `"layers":2`, `"layers":3`)},
		{packed, "", "shape", with(keyModel, `"hidden":128`, `"hidden":64`)},
		{packed, "", "groups", with(keyModel, `"group":0`, `"group":-1`)},
		{packed, "", "vocabulary of", with(keyModelWords, "ab", "a")},
		{packed, "", "out of order", with(keyModelWords, "ab", "ba")},
		{packed, "", "vocabulary", with(keyModelWords, "{", "")},
		{packed, "", `step "x"`, func(m map[string]string) { m[keyModelStep] = "x" }},
		{packed, "blk.1.ffn_up.weight", "tensors", nothing},
		{checkpoint, "", "step", func(m map[string]string) { m[keyStep] = "-1" }},
		{checkpoint, "", "width", with(keyConfig, `"width":32`, `"width":31`)},
		{checkpoint, "", "are missing", with(keyConfig, `"width":32`, `"width":65536`)},
		{checkpoint, parameterPrefix + "output_norm.weight", "32 are missing", nothing},
		{checkpoint, "", "did not keep the vocabulary", func(m map[string]string) { delete(m, keyState+stateWords) }},
		{checkpoint, "", "state of run", func(m map[string]string) { delete(m, keyState+stateRun) }},
		{checkpoint, "", "cannot be", with(keyState+stateRun, "{", `{"layers":{"place":[0,0],"cost":[1,2]},`)},
	} {
		path := rewrite(t, bad.from, bad.change, bad.without)
		if bad.from == checkpoint {
			refused(path, bad.says, ErrCheckpoint)
		} else {
			refused(path, bad.says)
		}
	}
}

// TestForgedSize: codes that take next to no bytes do not pass for the parameters of a large model, which would be allocated.
func TestForgedSize(t *testing.T) {
	c, rt, folder := plain(text(t)), open(t), t.TempDir()
	if _, _, err := Run(t.Context(), rt, c, Options{Folder: folder, Stop: 1}); err != nil {
		t.Fatal(err)
	}
	f, err := stn.Open(filepath.Join(folder, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	metadata := f.Metadata()
	f.Close()
	metadata[keyConfig] = strings.Replace(metadata[keyConfig], `"width":32`, `"width":512`, 1)
	large := c
	large.Width = 512
	l, err := OpenModel(rt, filepath.Join(folder, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	count, _ := large.shape(l.Model.Vocab).Parameters()
	path := filepath.Join(folder, "forged.stn")
	w, err := stn.Create(path, metadata)
	if err != nil {
		t.Fatal(err)
	}
	q := &quant.Tensor{Rows: 1, Cols: int(count), Levels: quant.Ternary, Format: quant.Int8, Codes: make([]int8, count), Scales: []float32{1}}
	if err := errors.Join(w.Add(parameterPrefix+"x", nil, q, stn.RANS), w.Close()); err != nil {
		t.Fatal(err)
	}
	if l, err := OpenModel(rt, path); l != nil || !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), fmt.Sprint(count, " are missing")) {
		t.Errorf("%v", err)
	}
}

// TestVocabularies go through JSON and back.
func TestVocabularies(t *testing.T) {
	for _, text := range []string{"", "\x00\x01\n\"\\ aяж\u2028🂡", "\xff\xfe\x00a\x80"} {
		v := data.Bytes()
		if text != "" {
			var err error
			if v, err = data.Characters([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := json.Marshal(wordsOf(v))
		if err != nil {
			t.Fatal(err)
		}
		var l Language
		if err := l.vocabulary(string(b)); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		pieces, single := v.Pieces()
		again, same := l.words.Pieces()
		if !slices.Equal(pieces, again) || single != same || (pieces == nil) != (again == nil) {
			t.Errorf("%s: %v, want %v", b, again, pieces)
		}
	}
	for _, bad := range []string{"", "null", "{}", `{"pieces":""}`, `{"pieces":"ba"}`, `{"pieces":"aя","single":true}`, `{"pieces":"ab","more":1}`, `{"pieces":"ab"}{}`} {
		var l Language
		if err := l.vocabulary(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
