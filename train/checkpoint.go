// SPDX-License-Identifier: Apache-2.0

package train

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/setun-compute/setun/quant/stn"
)

// checkpoint is a run between two steps. It is an .stn file of float32 tensors: the parameters and what the optimiser remembers, under their names; all else is in its metadata.
type checkpoint struct {
	config Config
	step   int                  // steps done
	floats map[string][]float32 // by name
	cols   map[string]int       // values of a row of those that are matrices; only written
	state  map[string]string    // of the other parts, by their names
}

// Keys of the metadata.
const (
	keyConfig = "setun.train.config"
	keyStep   = "setun.train.step"
	keyState  = "setun.train.state."
)

// save writes the checkpoint so that the path holds the old one or the new one, whatever happens.
func (c *checkpoint) save(path string) error {
	config, err := json.Marshal(c.config)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	metadata := map[string]string{keyConfig: string(config), keyStep: strconv.Itoa(c.step)}
	for k, v := range c.state {
		metadata[keyState+k] = v
	}
	w, err := stn.Create(path, metadata)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.floats)) {
		v := c.floats[name]
		shape := []int64{int64(len(v))}
		if cols := c.cols[name]; cols > 0 && cols < len(v) { // so that other tools see matrices
			shape = []int64{int64(len(v) / cols), int64(cols)}
		}
		if err := w.AddFloats(name, shape, stn.F32, v); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Close()
}

// load reads a checkpoint whole. Errors wrap ErrCheckpoint, or are stn's for a file that is damaged.
func load(path string) (*checkpoint, error) {
	f, err := stn.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := describe(path, f.Metadata())
	if err != nil {
		return nil, err
	}
	for _, t := range f.Tensors() {
		if c.floats[t.Name], err = f.Floats(t.Name, nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// describe reads what the metadata says, all but the tensors.
func describe(path string, metadata map[string]string) (c *checkpoint, err error) {
	c = &checkpoint{floats: map[string][]float32{}, state: map[string]string{}}
	if metadata[keyConfig] == "" {
		return nil, fmt.Errorf("%w: %s is no checkpoint of a training run", ErrCheckpoint, path)
	}
	if c.config, err = Parse([]byte(metadata[keyConfig]), Config{}); err != nil {
		return nil, fmt.Errorf("%w: %s: its configuration: %w", ErrCheckpoint, path, err)
	}
	if c.step, err = strconv.Atoi(metadata[keyStep]); err != nil || c.step < 0 {
		return nil, fmt.Errorf("%w: %s: step %q", ErrCheckpoint, path, metadata[keyStep])
	}
	for k, v := range metadata {
		if len(k) > len(keyState) && k[:len(keyState)] == keyState {
			c.state[k[len(keyState):]] = v
		}
	}
	return c, nil
}

// take copies the values of a name to dst, which must have as many.
func (c *checkpoint) take(name string, dst []float32) error {
	v, ok := c.floats[name]
	if !ok || len(v) != len(dst) {
		return fmt.Errorf("%w: %q has %d values, %d are needed", ErrCheckpoint, name, len(v), len(dst))
	}
	copy(dst, v)
	return nil
}
