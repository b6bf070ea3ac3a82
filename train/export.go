// SPDX-License-Identifier: Apache-2.0

package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/data"
	"github.com/setun-compute/setun/train/model"
)

// Keys of a model file's metadata: with its tensors they are all that OpenModel needs.
const (
	keyModel      = "setun.model.config"     // model.Config: the architecture and how it is quantized
	keyModelWords = "setun.model.vocabulary" // vocabulary
	keyModelStep  = "setun.model.step"       // steps it was trained for; for people
)

// ModelFile is how large a model file is.
type ModelFile struct {
	Bytes        int64   `json:"bytes"`
	Ratio        float64 `json:"ratio"`         // of all parameters as float32 to that
	TernaryBytes int64   `json:"ternary_bytes"` // of the ternary tensors: codes, their index and scales. What fills up sections to 64 bytes, checksums and the header are in Bytes alone
	TernaryRatio float64 `json:"ternary_ratio"` // of their weights as float32 to that; 0 without ternary tensors
}

// shape is the model of the configuration for a vocabulary of so many pieces.
func (c *Config) shape(vocabulary int) model.Config {
	s := model.Config{Vocab: vocabulary, Context: c.Context, Layers: c.Layers, Heads: c.Heads, Width: c.Width, Hidden: c.Hidden, Activation: c.Activation, Ternary: c.Ternary, QuantizeActivations: c.Ternary && c.Int8, TieEmbeddings: c.Tied, Deviation: c.Deviation}
	if s.Hidden == 0 {
		s.Hidden = 4 * c.Width
	}
	if s.Rule = quant.AbsMean; c.Rule == "least-squares" {
		s.Rule = quant.LeastSquares
	}
	if c.Granularity == "row" {
		s.Group = quant.PerRow
	}
	return s
}

// vocabulary is a data.Vocabulary in JSON.
type vocabulary struct {
	Pieces *string `json:"pieces"`           // characters in rising order; nil: the 256 bytes
	Single bool    `json:"single,omitempty"` // each stands for a byte
}

func wordsOf(v *data.Vocabulary) (w vocabulary) {
	pieces, single := v.Pieces()
	if w.Single = single; pieces != nil {
		text := string(pieces)
		w.Pieces = &text
	}
	return w
}

// words is the vocabulary that wordsOf described. Errors are data's.
func (w *vocabulary) words() (*data.Vocabulary, error) {
	if w.Pieces == nil {
		return data.FromPieces(nil, w.Single)
	}
	return data.FromPieces([]rune(*w.Pieces), w.Single)
}

// export writes the folder's model file, when all layers are ternary or none is to be. While some are not there is none: what the run would be rounded to says little about it, and one that an earlier run left would be taken for this one's.
func (t *trainer) export() (*ModelFile, error) {
	if t.opts.Folder == "" {
		return nil, nil
	}
	path := filepath.Join(t.opts.Folder, modelFile)
	if t.Ternary && t.mix(t.step) < 1 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, nil
	}
	return writeModel(path, t.model, t.text.words, t.step)
}

// Export writes the model of a checkpoint as a model file, which Run does at its end for the folder's own: ternary weights as entropy-coded codes and scales, all else as float32, and what OpenModel needs, so that it is used alone. The
// path holds the old file or the new one, whatever happens.
//
// Errors: those of OpenModel; ErrCheckpoint when some layers are not ternary yet at its step; the file system's.
func Export(rt *runtime.Runtime, checkpoint, path string) (*ModelFile, error) {
	l, err := OpenModel(rt, checkpoint)
	if err != nil {
		return nil, err
	}
	m, ok := l.net.(*model.Model)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s is no checkpoint but a model file already", ErrCheckpoint, checkpoint)
	case l.mean < 1 && m.Config().Ternary:
		return nil, fmt.Errorf("%w: %s is of step %d, at which layers are not all ternary yet", ErrCheckpoint, checkpoint, l.Step)
	}
	return writeModel(path, m, l.words, l.Step)
}

func writeModel(path string, m *model.Model, words *data.Vocabulary, step int) (*ModelFile, error) {
	config, err := json.Marshal(m.Config())
	if err != nil {
		return nil, err
	}
	pieces, err := json.Marshal(wordsOf(words))
	if err != nil {
		return nil, err
	}
	w, err := stn.Create(path, map[string]string{keyModel: string(config), keyModelWords: string(pieces), keyModelStep: strconv.Itoa(step)})
	if err != nil {
		return nil, err
	}
	if err := m.Pack(w); err != nil {
		w.Abort()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sizes(path)
}

// sizes reads from a model file how large it is.
func sizes(path string) (*ModelFile, error) {
	f, err := stn.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, all, ternary := &ModelFile{Bytes: f.Size()}, int64(0), int64(0)
	for _, t := range f.Tensors() {
		n := t.Values()
		if all += n; t.Kind == stn.Quantized {
			ternary += n
			s.TernaryBytes += t.Bytes()
		}
	}
	if s.Ratio = 4 * float64(all) / float64(s.Bytes); ternary > 0 {
		s.TernaryRatio = 4 * float64(ternary) / float64(s.TernaryBytes)
	}
	return s, nil
}
