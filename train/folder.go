// SPDX-License-Identifier: Apache-2.0

package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/train/auxnn"
	"github.com/setun-compute/setun/train/optim"
)

// Files of a run's folder.
const (
	metricsFile    = "metrics.jsonl"
	checkpointFile = "checkpoint.stn"
	modelFile      = "model.stn"
	summaryFile    = "summary.json"
	reportFile     = "report.html"
)

// openMetrics opens the file of records: a new one, or for a run that goes on the old one, cut after the step of the checkpoint.
func (t *trainer) openMetrics() (io.WriteCloser, error) {
	if t.opts.Folder == "" {
		return nowhere{}, nil
	}
	if err := os.MkdirAll(t.opts.Folder, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(t.opts.Folder, modelFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it would be taken for this run's
		return nil, err
	}
	path := filepath.Join(t.opts.Folder, metricsFile)
	if t.step == 0 {
		return os.Create(path)
	}
	old, err := readRecords(path, t.step)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	for i := range old {
		if err := (metrics{&lines}).add(&old[i]); err != nil {
			return nil, err
		}
	}
	if err := durable.WriteFile(path, lines.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
}

// nowhere takes records of a run without a folder.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

func (t *trainer) writeSummary(s Summary, records []Record) error {
	if all, err := readRecords(filepath.Join(t.opts.Folder, metricsFile), t.step); err == nil {
		records = all // those of earlier processes too
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(durable.WriteFile(filepath.Join(t.opts.Folder, summaryFile), append(text, '\n'), 0o644),
		durable.Write(filepath.Join(t.opts.Folder, reportFile), 0o644, func(w io.Writer) error { return WriteReport(w, s, records) }))
}

// readRecords reads the lines of a metrics file up to a step.
func readRecords(path string, last int) ([]Record, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return scanRecords(f, last)
}

// scanRecords ends at a line that is cut off, as a killed run leaves it, or that is anything else, zeros without end for example, as a power loss may.
func scanRecords(r io.Reader, last int) (list []Record, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var r Record
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.Step > last {
			return list, nil
		}
		list = append(list, r)
	}
	if err := lines.Err(); !errors.Is(err, bufio.ErrTooLong) {
		return list, err
	}
	return list, nil
}

// syncMetrics makes the records of the steps so far durable: what a checkpoint has behind it is not written again.
func (t *trainer) syncMetrics() error {
	f, err := os.OpenFile(filepath.Join(t.opts.Folder, metricsFile), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Names of what a checkpoint holds.
const (
	parameterPrefix = "param/"
	momentPrefix    = "optim/"
	stateOptim      = "optim"
	stateAux        = "aux"
	stateRun        = "run"
	stateWords      = "vocabulary"
)

// running is what a run itself has to remember.
type running struct {
	Best   float64   `json:"best,omitempty"` // 0: no evaluation yet
	Recent []float64 `json:"recent"`
	Text   uint32    `json:"text"` // its checksum

	Layers *ordering `json:"layers,omitempty"`
}

// save writes a checkpoint of the run as it stands.
func (t *trainer) save() error {
	if !t.saves || t.spoiled {
		return nil
	}
	home := errors.Join(t.model.Home(), t.optim.Home())
	if home != nil {
		home = fmt.Errorf("checkpoint of step %d: %w", t.step, home)
	}
	c := &checkpoint{config: t.Config, step: t.step, floats: map[string][]float32{}, cols: map[string]int{}, state: map[string]string{}}
	if err := t.residuals(c.floats, home); err != nil || t.opts.Folder == "" {
		return err
	}
	t.state = t.optim.State(t.state)
	for _, p := range t.model.Params() {
		c.floats[parameterPrefix+p.Name], c.cols[parameterPrefix+p.Name] = p.Value, p.Cols
	}
	for name, v := range t.state.Floats {
		c.floats[momentPrefix+name] = v
	}
	rest := optim.State{Step: t.state.Step, Labels: t.state.Labels, Factors: t.state.Factors}
	run := running{Recent: t.recent, Text: t.text.checksum, Layers: t.layers}
	if t.step > 0 && t.best < 1e300 {
		run.Best = t.best
	}
	for name, v := range map[string]any{stateOptim: &rest, stateRun: &run, stateWords: wordsOf(t.text.words)} {
		if err := c.put(name, v); err != nil {
			return err
		}
	}
	if t.aux != nil {
		if err := c.put(stateAux, t.aux.State()); err != nil {
			return err
		}
	}
	if err := t.syncMetrics(); err != nil {
		t.warn(fmt.Errorf("metrics until step %d: %w", t.step, err))
	}
	if err := c.save(filepath.Join(t.opts.Folder, checkpointFile)); err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", t.step, err)
	}
	return nil
}

func (c *checkpoint) put(name string, v any) error {
	b, err := json.Marshal(v)
	c.state[name] = string(b)
	return err
}

func (c *checkpoint) get(name string, v any) error {
	text, ok := c.state[name]
	if !ok {
		return fmt.Errorf("%w: it has no state of %s", ErrCheckpoint, name)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("%w: state of %s: %v", ErrCheckpoint, name, err)
	}
	return nil
}

// resume goes on from the folder's checkpoint, if there is one.
func (t *trainer) resume() error {
	path := filepath.Join(t.opts.Folder, checkpointFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := load(path)
	if err != nil {
		return err
	}
	c.config.Ranks = max(1, c.config.Ranks) // 0 is of a time when there was always one
	if d := t.Config.Differences(c.config); len(d) > 0 {
		return fmt.Errorf("%w: %s is of another configuration (asked for, there): %v", ErrCheckpoint, path, d)
	}
	state := optim.State{}
	var run running
	if err := errors.Join(c.get(stateOptim, &state), c.get(stateRun, &run)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := run.Layers.check(len(t.lambdas)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if run.Text != t.text.checksum {
		return fmt.Errorf("%w: %s is of another text than %s is now", ErrCheckpoint, path, t.text.name)
	}
	state.Floats = map[string][]float32{}
	for name, v := range c.floats {
		if len(name) > len(momentPrefix) && name[:len(momentPrefix)] == momentPrefix {
			state.Floats[name[len(momentPrefix):]] = v
		}
	}
	for _, p := range t.model.Params() {
		if err := c.take(parameterPrefix+p.Name, p.Value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := errors.Join(t.optim.Load(&state), t.loadResiduals(c)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCheckpoint, path, err)
	}
	if t.aux != nil {
		var s auxnn.State
		if err := c.get(stateAux, &s); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := t.aux.Load(&s); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCheckpoint, path, err)
		}
	}
	if t.step, t.recent, t.layers = c.step, run.Recent, run.Layers; run.Best > 0 {
		t.best = run.Best
	}
	return t.model.Refresh()
}
