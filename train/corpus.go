// SPDX-License-Identifier: Apache-2.0

package train

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/data"
)

// corpus is a run's text as tokens: nine tenths to train on, the last tenth to validate.
type corpus struct {
	name       string
	checksum   uint32 // of the text: a run goes on with the text that it began with
	words      *data.Vocabulary
	vocabulary int
	train      *data.Sampler
	validate   []int32
	starts     []int // of the windows of an evaluation
	context    int
	rank       int
	accumulate int // micro-batches of a rank in a step
	all        int // of all ranks
}

func openCorpus(ctx context.Context, rt *runtime.Runtime, c *Config, rank int) (*corpus, error) {
	var text *data.Corpus
	var err error
	switch c.Data {
	case "go":
		text, err = data.GoSource("", data.GoOptions{})
	case "opticks":
		text, err = data.Opticks("")
	default:
		text, err = data.File(c.Data, 0)
	}
	if err != nil {
		return nil, err
	}
	t := &corpus{name: text.Name, checksum: crc32.ChecksumIEEE(text.Text), words: data.Bytes(), context: c.Context, rank: rank, accumulate: c.Accumulate, all: c.Accumulate * c.Ranks}
	if c.Vocabulary == "char" {
		if t.words, err = data.Characters(text.Text); err != nil {
			return nil, err
		}
	}
	t.vocabulary = t.words.Size()
	tokens, err := t.words.Encode(nil, text.Text)
	if err != nil {
		return nil, err
	}
	train, validate := data.Split(tokens)
	t.validate = validate
	if t.starts, err = data.Windows(validate, c.Context, c.EvalBatches*c.Batch); err != nil {
		return nil, fmt.Errorf("validation text: %w", err)
	}
	o := data.SamplerOptions{Context: c.Context, Batch: c.Batch, Seed: c.Seed}
	if c.DataClusters != 0 {
		if o.Clusters, err = data.Cluster(ctx, rt, train, t.vocabulary, data.ClusterOptions{Context: c.Context, K: max(c.DataClusters, 0), Seed: c.Seed}); err != nil {
			return nil, err
		}
		o.Jitter = c.Context
		if c.Curriculum {
			o.Ramp, o.First = uint64(c.Steps*t.all/4), 0.25
		}
	}
	t.train, err = data.NewSampler(train, o)
	return t, err
}

// batch makes the windows of a micro-batch of a step, which has Batch·Context tokens: those of a rank follow those of the rank before it.
func (t *corpus) batch(step, micro int, tokens, targets []int32) {
	t.train.Batch(uint64(step)*uint64(t.all)+uint64(t.rank*t.accumulate+micro), tokens, targets)
}

// window copies as many of the evaluation's windows from the first-th on as there is room for, and returns how many.
func (t *corpus) window(first int, tokens, targets []int32) (count int) {
	for _, at := range t.starts[first:] {
		if (count+1)*t.context > len(tokens) {
			break
		}
		copy(tokens[count*t.context:][:t.context], t.validate[at:])
		copy(targets[count*t.context:][:t.context], t.validate[at+1:])
		count++
	}
	return count
}

// start is the token that samples begin with: a line's end, or whatever the vocabulary has.
func (t *corpus) start() int32 { return startOf(t.words) }

func startOf(words *data.Vocabulary) int32 {
	if tokens, err := words.Encode(nil, []byte("\n")); err == nil {
		return tokens[0]
	}
	return 0
}

// decode is the text of tokens.
func (t *corpus) decode(tokens []int32) (string, error) {
	text, err := t.words.Decode(nil, tokens)
	return string(text), err
}
