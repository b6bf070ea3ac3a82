// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Sentinels for errors.Is.
var (
	ErrConfig     = errors.New("wrong configuration")
	ErrCheckpoint = errors.New("checkpoint cannot be used")
	ErrDiverged   = errors.New("training diverged")
)

// Config says everything about a run. The zero value of a field is not its default: start from [Default] or [Preset]. Two runs of one Config on any machine have the same bits.
type Config struct {
	Data       string `json:"data"`       // "go": the Go source of the user's GOROOT; "opticks": Newton's Opticks, which comes with it; else a file
	Vocabulary string `json:"vocabulary"` // "byte": 256; "char": the characters that occur
	Seed       uint64 `json:"seed"`

	Layers     int    `json:"layers"`
	Heads      int    `json:"heads"`
	Width      int    `json:"width"`
	Hidden     int    `json:"hidden"`     // of the feed-forward layers; 0: four times the width
	Context    int    `json:"context"`    // tokens of a window
	Activation string `json:"activation"` // "relu2" or "swiglu"
	Tied       bool   `json:"tied"`       // the head is the embedding

	Batch      int `json:"batch"`      // windows of a micro-batch
	Accumulate int `json:"accumulate"` // micro-batches of a step
	Steps      int `json:"steps"`

	Optimizer    string  `json:"optimizer"` // "adamw" or "sgd"
	LearningRate float64 `json:"learning_rate"`
	MinRate      float64 `json:"min_rate"` // at the end of the schedule
	Warmup       int     `json:"warmup"`   // steps
	Schedule     string  `json:"schedule"` // "cosine" or "two-stage" (BitNet's: a high rate, then from the half on a lower one that falls to 0, without weight decay)
	WeightDecay  float64 `json:"weight_decay"`
	Beta1        float64 `json:"beta1"`
	Beta2        float64 `json:"beta2"`
	Clip         float64 `json:"clip"` // norm of the gradient; 0: none

	Ternary     bool    `json:"ternary"`     // linear layers
	Int8        bool    `json:"int8"`        // activations of ternary layers; costs 4 % of the loss at the size of the presets (docs/training.md)
	Rule        string  `json:"rule"`        // "absmean" or "least-squares"
	Granularity string  `json:"granularity"` // scales a "tensor" or a "row"
	Deviation   float64 `json:"deviation"`   // standard deviation of the first weights of linear layers; 0: 0.02, and 0.06 of ternary ones
	Start       float64 `json:"start"`       // share of the steps after which weights begin to be ternary
	Ramp        float64 `json:"ramp"`        // share of the steps over which they become so

	// Precision is the order in which layers become ternary. "": all together, each over the whole ramp. By the others they go one after another, each within its own part of the ramp: "depth", blocks from the first to the last;
	// "depth-reversed", from the last to the first; "sensitivity", linear layers by what each adds to the loss when it alone is ternary, the least first;
	// "suggested", linear layers by the error that runtime.SuggestPrecision expects of their weights in ternary, the least first. The last two are measured once, when the ramp begins, and kept in checkpoints.
	Precision string `json:"precision"`

	Radius       float64 `json:"radius"`        // trust region: the norm of a step, at the schedule's peak rate; 0: none
	Clusters     int     `json:"clusters"`      // groups of rows of each linear layer with a rate and a radius of their own; 0: one, −1: as many as SuggestK finds
	DataClusters int     `json:"data_clusters"` // clusters that batches are composed of; 0: windows anywhere, −1: as many as SuggestK finds
	Curriculum   bool    `json:"curriculum"`    // easy clusters first

	Aux      bool `json:"aux"`       // the auxiliary network adjusts rate and radius
	AuxEvery int  `json:"aux_every"` // steps between its decisions

	Ranks    int    `json:"ranks"`    // processes, each with Accumulate micro-batches of a step: as mpirun started them, and 0 means as many as that
	Compress string `json:"compress"` // gradients on their way to the other processes. "": float32; "ternary": codes with error feedback, a scale a tensor; "ternary-row": a scale a row (docs/training.md)

	EvalEvery       int `json:"eval_every"`       // steps
	EvalBatches     int `json:"eval_batches"`     // of Batch windows, spread over the validation text; the same in every evaluation
	CheckpointEvery int `json:"checkpoint_every"` // steps; 0: at the end only
}

// Default is the configuration that unset fields of a file have: nanoGPT's for a processor (4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps), ternary.
func Default() Config {
	return Config{
		Data: "go", Vocabulary: "byte", Seed: 1,
		Layers: 4, Heads: 4, Width: 128, Context: 64, Activation: "relu2",
		Batch: 12, Accumulate: 1, Steps: 2000,
		Optimizer: "adamw", LearningRate: 4e-3, MinRate: 1e-4, Warmup: 100, Schedule: "cosine", WeightDecay: 0.1, Beta1: 0.9, Beta2: 0.99, Clip: 1,
		Ternary: true, Rule: "absmean", Granularity: "tensor",
		AuxEvery: 10, EvalEvery: 250, EvalBatches: 20, CheckpointEvery: 500,
	}
}

// Presets are the names that Preset knows.
func Presets() []string { return []string{"tiny", "shakespeare", "hybrid", "small"} }

// Preset returns a named configuration: "tiny" learns visibly within a minute on two cores; "shakespeare" is nanoGPT's CPU configuration with a character vocabulary, for that text; "hybrid" is the same with batches composed of
// clusters, a trust region for each cluster of rows, and the auxiliary network; "small" takes an hour.
func Preset(name string) (Config, error) {
	c := Default()
	switch name {
	case "tiny":
		c.Layers, c.Width, c.Steps, c.Warmup, c.EvalEvery, c.CheckpointEvery = 2, 64, 600, 50, 100, 0
	case "shakespeare":
		c.Vocabulary = "char"
	case "hybrid":
		c.Vocabulary, c.DataClusters, c.Clusters, c.Radius, c.Aux = "char", 8, 8, 1.2, true
	case "small":
		c.Layers, c.Heads, c.Width, c.Context, c.Batch, c.Steps = 6, 6, 384, 256, 16, 3000
	default:
		return c, fmt.Errorf("%w: preset %q; there are %s", ErrConfig, name, strings.Join(Presets(), ", "))
	}
	return c, nil
}

// Load reads a JSON file over base: fields that it does not name stay. Unknown fields, a second value and values out of range are errors that wrap ErrConfig.
func Load(path string, base Config) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return base, err
	}
	c, err := Parse(data, base)
	if err != nil {
		return base, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// Parse is Load of bytes.
func Parse(data []byte, base Config) (Config, error) {
	if len(data) > maxConfig {
		return base, fmt.Errorf("%w: %d bytes, at most %d are read", ErrConfig, len(data), maxConfig)
	}
	c := base
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return base, fmt.Errorf("%w: %v", ErrConfig, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return base, fmt.Errorf("%w: something follows the object", ErrConfig)
	}
	return c, c.Check()
}

// Check returns an error that wraps ErrConfig and names the first field that is out of range, with its value and what would be right.
func (c *Config) Check() error {
	for _, f := range []struct {
		name     string
		value    float64
		low, top float64
	}{
		{"layers", float64(c.Layers), 1, 256}, {"heads", float64(c.Heads), 1, 256}, {"width", float64(c.Width), 1, 1 << 16}, {"hidden", float64(c.Hidden), 0, 1 << 18}, {"context", float64(c.Context), 1, 1 << 16},
		{"batch", float64(c.Batch), 1, 1 << 16}, {"accumulate", float64(c.Accumulate), 1, 1 << 16}, {"steps", float64(c.Steps), 1, 1 << 30},
		{"learning_rate", c.LearningRate, 1e-12, 100}, {"min_rate", c.MinRate, 0, 100}, {"warmup", float64(c.Warmup), 0, 1 << 30}, {"weight_decay", c.WeightDecay, 0, 100},
		{"beta1", c.Beta1, 0, 0.999999}, {"beta2", c.Beta2, 0, 0.999999}, {"clip", c.Clip, 0, math.MaxFloat32}, {"start", c.Start, 0, 1}, {"ramp", c.Ramp, 0, 1},
		{"radius", c.Radius, 0, math.MaxFloat32}, {"deviation", c.Deviation, 0, 1000}, {"clusters", float64(c.Clusters), -1, 1 << 16}, {"data_clusters", float64(c.DataClusters), -1, 1 << 16}, {"aux_every", float64(c.AuxEvery), 1, 1 << 30}, {"ranks", float64(c.Ranks), 0, 1 << 16},
		{"eval_every", float64(c.EvalEvery), 1, 1 << 30}, {"eval_batches", float64(c.EvalBatches), 1, 1 << 20}, {"checkpoint_every", float64(c.CheckpointEvery), 0, 1 << 30},
	} {
		if !(f.value >= f.low && f.value <= f.top) { // also NaN
			return fmt.Errorf("%w: %s = %v is not within %v … %v", ErrConfig, f.name, f.value, f.low, f.top)
		}
	}
	for _, f := range []struct {
		name, value string
		any         []string
	}{
		{"vocabulary", c.Vocabulary, []string{"byte", "char"}}, {"activation", c.Activation, []string{"relu2", "swiglu"}}, {"optimizer", c.Optimizer, []string{"adamw", "sgd"}},
		{"schedule", c.Schedule, []string{"cosine", "two-stage"}}, {"rule", c.Rule, []string{"absmean", "least-squares"}}, {"granularity", c.Granularity, []string{"tensor", "row"}},
	} {
		if !slices.Contains(f.any, f.value) {
			return fmt.Errorf("%w: %s = %q is none of %s", ErrConfig, f.name, f.value, strings.Join(f.any, ", "))
		}
	}
	switch {
	case c.Data == "":
		return fmt.Errorf("%w: data is empty; write \"go\", \"opticks\" or a path", ErrConfig)
	case c.Width%c.Heads != 0:
		return fmt.Errorf("%w: width = %d is not a multiple of the %d heads", ErrConfig, c.Width, c.Heads)
	case c.MinRate > c.LearningRate:
		return fmt.Errorf("%w: min_rate = %v is above learning_rate = %v", ErrConfig, c.MinRate, c.LearningRate)
	case c.Start+c.Ramp > 1:
		return fmt.Errorf("%w: start + ramp = %v: weights would not be ternary at the end", ErrConfig, c.Start+c.Ramp)
	case !slices.Contains([]string{"", byDepth, byDepthReverse, bySensitivity, bySuggestion}, c.Precision):
		return fmt.Errorf("%w: precision = %q is none of %s, %s, %s, %s, and not empty", ErrConfig, c.Precision, byDepth, byDepthReverse, bySensitivity, bySuggestion)
	case c.Precision != "" && c.Ramp == 0:
		return fmt.Errorf("%w: precision = %q needs a ramp, in which layers become ternary one after another", ErrConfig, c.Precision)
	case !slices.Contains([]string{"", compressTernary, compressRows}, c.Compress):
		return fmt.Errorf("%w: compress = %q is none of %s, %s, and not empty", ErrConfig, c.Compress, compressTernary, compressRows)
	case c.Clusters != 0 && c.Radius == 0:
		return fmt.Errorf("%w: clusters = %d need a radius", ErrConfig, c.Clusters)
	case c.Curriculum && c.DataClusters == 0:
		return fmt.Errorf("%w: a curriculum needs data_clusters", ErrConfig)
	}
	return nil
}

// Differences lists the fields in which two configurations differ, as "width: 128, 256". Fields that may change when a run goes on (steps, how often it is evaluated and saved) are left out.
func (c Config) Differences(other Config) (list []string) {
	free := []string{"steps", "eval_every", "checkpoint_every"}
	a, b := reflect.ValueOf(c), reflect.ValueOf(other)
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("json")
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); x != y && !slices.Contains(free, name) {
			list = append(list, fmt.Sprintf("%s: %v, %v", name, x, y))
		}
	}
	return list
}
