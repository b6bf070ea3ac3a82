// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
	"github.com/setun-compute/setun/quant"
)

const savedAt = "/home/user/run/checkpoint.stn"

// checkpoint writes a file as a training run does: float32 tensors, and a state in the metadata.
func checkpoint(step int, names ...string) func(durable.Files) error {
	return func(files durable.Files) error {
		w, err := createIn(files, savedAt, map[string]string{"setun.train.step": fmt.Sprint(step), "setun.train.state.run": strings.Repeat("{}", 200)})
		if err != nil {
			return err
		}
		defer w.Abort()
		for _, name := range names {
			if err := w.AddFloats(name, []int64{10, 30}, F32, make([]float32, 300)); err != nil {
				return err
			}
		}
		return w.Close()
	}
}

// packed writes codes by chunks, and more than what is buffered.
func packed(files durable.Files) error {
	q := random(rand.New(rand.NewPCG(7, 1)), quant.Ternary, 20, 2000, 2000, 0.4)
	w, err := createIn(files, savedAt, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, c := range []Coding{RANS, Base3} {
		if err := w.Begin(c.String(), []int64{20, 2000}, quant.Ternary, 2000, 2000, c); err != nil {
			return err
		}
		for first := 0; first < 20; first += 5 {
			if err := w.AddRows(part(q, first, 5)); err != nil {
				return err
			}
		}
		if err := w.End(); err != nil {
			return err
		}
	}
	if err := w.AddFloats("f", []int64{70_000}, F32, make([]float32, 70_000)); err != nil {
		return err
	}
	return w.Close()
}

// content reads a file whole, with all checksums.
func content(files durable.Files) (string, error) {
	data, err := files.ReadFile(savedAt, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := parse(data, Options{})
	if err == nil {
		err = readAll(f)
	}
	if err != nil {
		return "", err
	}
	text := f.Metadata()["setun.train.step"]
	for _, i := range f.Tensors() {
		text += " " + i.Name
	}
	return text, nil
}

func stnSaves() map[string]*crashtest.Save {
	list := map[string]*crashtest.Save{
		"first checkpoint": {Path: savedAt, New: checkpoint(1, "a", "b"), Load: content},
		"checkpoint":       {Path: savedAt, Old: checkpoint(1, "a", "b", "c"), New: checkpoint(2, "a", "b"), Load: content},
	}
	if !testing.Short() {
		list["model"] = &crashtest.Save{Path: savedAt, Old: checkpoint(1, "a", "b"), New: packed, Load: content}
	}
	return list
}

func TestF22FileWithAFailingDisk(t *testing.T) {
	for name, s := range stnSaves() {
		t.Run(name, s.Failures)
	}
}

func TestF23FileAfterAPowerLoss(t *testing.T) {
	for name, s := range stnSaves() {
		t.Run(name, s.Crashes)
	}
}
