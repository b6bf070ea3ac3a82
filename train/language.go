// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"

	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/data"
	"github.com/setun-compute/setun/train/model"
)

// Sentinels for errors.Is.
var (
	ErrModel  = errors.New("not a model that can be used")
	ErrPrompt = errors.New("prompt cannot be used")
)

// Kinds of files that OpenModel reads.
const (
	ModelKind      = "model"      // model.stn
	CheckpointKind = "checkpoint" // checkpoint.stn
)

// Language is a trained model with its vocabulary: it writes text. It serves one call at a time.
type Language struct {
	Kind  string       // ModelKind or CheckpointKind
	Step  int          // that it was trained for
	Model model.Config // its architecture

	words *data.Vocabulary
	net   network
	mean  float32 // how ternary a checkpoint's layers are
}

// network is a *model.Model or a *model.Packed.
type network interface {
	Generate(ctx context.Context, prompt []int32, n int, temperature float64, topK int, seed uint64, emit func(int32) error) error
}

// OpenModel opens a model file, or a checkpoint as its run left it; which one it is is in its metadata. rt must stay open, the file need not stay there. A model file of a run takes little memory (model.Packed) and says the same
// as the checkpoint beside it, token by token.
//
// Errors: ErrModel for any other file, a damaged one (stn's errors say where), and one whose parts do not fit together; ErrCheckpoint besides when it is a checkpoint; the file system's.
func OpenModel(rt *runtime.Runtime, path string) (*Language, error) {
	f, err := stn.Open(path)
	var system *fs.PathError
	switch {
	case errors.As(err, &system):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	defer f.Close()
	metadata := f.Metadata()
	l := &Language{Kind: ModelKind}
	switch {
	case metadata[keyModel] != "":
		err = l.packed(rt, f, metadata)
	case metadata[keyConfig] != "":
		l.Kind = CheckpointKind
		if err = l.checkpoint(rt, f, metadata); err != nil {
			err = fmt.Errorf("%w: %w", ErrCheckpoint, err)
		}
	default:
		err = errors.New("neither a model nor a checkpoint of a run: its metadata names no configuration")
	}
	if err == nil { // the bytes between tensors too
		err = f.Verify()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrModel, path, err)
	}
	return l, nil
}

// packed reads a model file.
func (l *Language) packed(rt *runtime.Runtime, f *stn.File, metadata map[string]string) (err error) {
	if err := strictly(metadata[keyModel], &l.Model); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := l.step(metadata[keyModelStep]); err != nil {
		return err
	}
	if err := l.vocabulary(metadata[keyModelWords]); err != nil {
		return err
	}
	if l.words.Size() != l.Model.Vocab {
		return fmt.Errorf("a vocabulary of %v for a model of %d", l.words, l.Model.Vocab)
	}
	k, err := model.Unpack(rt, l.Model, f)
	if err != nil {
		return err
	}
	l.Model, l.net, l.mean = k.Config(), k, 1
	return nil
}

// checkpoint reads what a checkpoint has of the model, with layers as ternary as they are at its step.
func (l *Language) checkpoint(rt *runtime.Runtime, f *stn.File, metadata map[string]string) error {
	c, err := Parse([]byte(metadata[keyConfig]), Config{})
	if err != nil {
		return err
	}
	if err := l.step(metadata[keyStep]); err != nil {
		return err
	}
	text, ok := metadata[keyState+stateWords]
	switch {
	case ok:
		err = l.vocabulary(text)
	case c.Vocabulary == "byte":
		l.words = data.Bytes()
	default:
		err = errors.New("it is of a version that did not keep the vocabulary; a run that goes on from it does")
	}
	if err != nil {
		return err
	}
	l.Model = c.shape(l.words.Size())
	all, _ := l.Model.Parameters()
	for _, t := range f.Tensors() {
		if t.Kind != stn.Quantized && len(t.Name) > len(parameterPrefix) && t.Name[:len(parameterPrefix)] == parameterPrefix { // whose values take bytes
			all -= t.Values()
		}
	}
	if all != 0 { // before New allocates what a forged configuration asks for
		return fmt.Errorf("its parameters are not those of its configuration: %d are missing", all)
	}
	m, err := model.New(rt, l.Model, c.Seed)
	if err != nil {
		return err
	}
	for _, p := range m.Params() {
		name := parameterPrefix + p.Name
		t, err := f.Info(name)
		switch {
		case err != nil:
			return err
		case t.Values() != int64(len(p.Value)):
			return fmt.Errorf("%q has the shape %v, not %d×%d", name, t.Shape, p.Rows, p.Cols)
		}
		if _, err = f.Floats(name, p.Value); err != nil {
			return err
		}
		if i := slices.IndexFunc(p.Value, func(v float32) bool { return v-v != 0 }); i >= 0 {
			return fmt.Errorf("%s[%d] = %v", name, i, p.Value[i])
		}
	}
	var run running
	if err := json.Unmarshal([]byte(metadata[keyState+stateRun]), &run); err != nil {
		return fmt.Errorf("state of %s: %w", stateRun, err)
	}
	lambdas := make([]float32, linearsOfLayer*c.Layers)
	if err := run.Layers.check(len(lambdas)); err != nil {
		return err
	}
	l.mean = c.mix(l.Step)
	c.mixes(lambdas, l.mean, run.Layers)
	l.Model, l.net = m.Config(), m
	return errors.Join(m.SetMixes(lambdas), m.Refresh())
}

func (l *Language) step(text string) (err error) {
	if l.Step, err = strconv.Atoi(text); err != nil || l.Step < 0 {
		return fmt.Errorf("step %q", text)
	}
	return nil
}

func (l *Language) vocabulary(text string) error {
	var v vocabulary
	err := strictly(text, &v)
	if err == nil {
		l.words, err = v.words()
	}
	if err != nil {
		return fmt.Errorf("vocabulary: %w", err)
	}
	return nil
}

// strictly reads one JSON value without fields that v does not have.
func strictly(text string, v any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}

// GenerateOptions says how a text goes on.
type GenerateOptions struct {
	Prompt      string  // what it begins with; "": a line's end, which is no part of the text
	Tokens      int     // how many follow
	Temperature float64 // 0: always the most likely token; 1: as often as the model says
	Top         int     // tokens that are drawn from, at most: the most likely ones; 0: all
	Seed        uint64  // the same seed gives the same text
}

// Generate gives to emit each token that follows the prompt, with its text, which is emit's to keep. See model.Model.Generate.
//
// Errors: ErrPrompt for a prompt that is longer than the context, or, with data.ErrUnknown, that has what the vocabulary has not; model.ErrArgument; emit's, which ends the text; the runtime's; ctx's.
func (l *Language) Generate(ctx context.Context, o GenerateOptions, emit func(token int32, text []byte) error) error {
	if emit == nil {
		return fmt.Errorf("%w: emit is nil", model.ErrArgument)
	}
	prompt := []int32{startOf(l.words)}
	if o.Prompt != "" {
		var err error
		if prompt, err = l.words.Encode(nil, []byte(o.Prompt)); err != nil {
			return fmt.Errorf("%w: %w; the model knows %v", ErrPrompt, err, l.words)
		}
		if len(prompt) > l.Model.Context {
			return fmt.Errorf("%w: it has %d tokens, the model's context %d", ErrPrompt, len(prompt), l.Model.Context)
		}
	}
	return l.net.Generate(ctx, prompt, o.Tokens, o.Temperature, o.Top, o.Seed, func(token int32) error {
		text, err := l.words.Decode(nil, []int32{token})
		if err != nil {
			return err
		}
		return emit(token, text)
	})
}
