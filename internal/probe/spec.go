// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/quarantine"
	"github.com/setun-compute/setun/internal/selftest"
)

// ChildVariable is the environment variable that makes a program a probe's child. Only Guard sets it.
const ChildVariable = "SETUN_PROBE_CHILD"

// revision is raised when a probe finds more than before: what was said of libraries does not count any longer.
const revision = 5

// Contract is the version of what a library was tried for.
func Contract() string { return fmt.Sprintf("%s, probe %d", plugin.Contract(), revision) }

// spec is what the child is told, in ChildVariable.
type spec struct {
	Revision int    `json:"revision"`
	Parent   int    `json:"parent"`           // its process number
	Nonce    string `json:"nonce"`            // which the result must repeat
	Library  int    `json:"library"`          // descriptor; 0: by its path
	Result   int    `json:"result"`           // descriptor
	System   string `json:"system,omitempty"` // a library of the system that is to be tried, by its path or name, and none of Setun's
	Named    bool   `json:"named,omitempty"`  // it is a name that the system's loader knows, even if it looks like a path
	Name     string `json:"name"`
	Path     string `json:"path"`
	Digest   string `json:"digest"` // of the file at the path, when it is loaded by that
	Cores    int    `json:"cores"`
	Level    string `json:"level,omitempty"`  // of instruction sets, that alone is used
	Others   bool   `json:"others,omitempty"` // the library is no part of Setun
	Devices  []int  `json:"devices,omitempty"`
	Seconds  int    `json:"seconds"`         // of the processor's time
	Again    []call `json:"again,omitempty"` // what was running when processes ended
}

var errSpec = errors.New("not a probe's")

// parse reads the variable. Nothing but what Guard writes is accepted.
func parse(text string, parent int) (s spec, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%w: %w", errSpec, err)
	}
	switch {
	case len(text) > 64<<10, d.More():
		return s, fmt.Errorf("%w: it is too long", errSpec)
	case s.Revision != revision:
		return s, fmt.Errorf("%w: revision %d, not %d: the helper is not of the same version", errSpec, s.Revision, revision)
	case s.Parent != parent:
		return s, fmt.Errorf("%w: process %d has started it, not %d", errSpec, parent, s.Parent)
	case len(s.Nonce) != nonceSize || s.Result < 1 || s.Library < 0 || s.Library == 0 && s.Path == "" && s.System == "" || s.Cores < 1 || s.Seconds < 1:
		return s, fmt.Errorf("%w: fields are out of range", errSpec)
	}
	return s, nil
}

const nonceSize = 32

// call is one that a process had in a kernel when it ended.
type call struct {
	Op      string                 `json:"op"`
	Kernel  string                 `json:"kernel"`
	Variant uint32                 `json:"variant,omitempty"`
	Sizes   [quarantine.Dims]int64 `json:"sizes"`
}

// Kinds of ends of a child that lived.
const (
	fit       = "fit"       // it may be loaded; some ops may have failed
	unfit     = "unfit"     // the library itself is wrong
	transient = "transient" // the machine could not do it now: no verdict on the library
)

// result is the line that the child writes at the end.
type result struct {
	Nonce    string             `json:"nonce"`
	Kind     string             `json:"kind"`
	State    plugin.State       `json:"state,omitempty"`
	Sentinel string             `json:"sentinel,omitempty"` // which error it was
	Error    string             `json:"error,omitempty"`
	Version  string             `json:"version"`
	Build    string             `json:"build"`
	Kernels  int                `json:"kernels"` // tested
	Devices  int                `json:"devices,omitempty"`
	Failures []selftest.Failure `json:"failures,omitempty"`
	Again    []string           `json:"again,omitempty"` // what came of each call that was to be tried again; none: there was no device
	Nanos    int64              `json:"nanos"`
}

// hello is the child's first line. Without it the program is none that knows of probes.
func hello(nonce string) string { return "probe " + nonce }

// outcome is what came of a child, put together from what it wrote and how it ended.
type outcome struct {
	result
	died   string // how it ended; empty when it ended as it should
	at     string // what it was doing
	absent bool   // no probe was made, for the reason in died
	trying int    // which call it was trying again, counted from 1; 0: none
	found  string // the file that a library of the system lies in, once it was loaded
}

// read takes a child's output apart: hello, a line for each step and each file that was found, a line of JSON. A child that died may have left half a line.
func (o *outcome) read(nonce string, output []byte) {
	wrong := func(why string) {
		if o.died == "" {
			o.died = why
		}
	}
	text, known := strings.CutPrefix(string(output), hello(nonce)+"\n")
	if !known {
		o.absent = true
		wrong("the program that was started does not know of probes")
		return
	}
	lines := strings.Split(text, "\n")
	rest := lines[len(lines)-1]
	for i, line := range lines[:len(lines)-1] {
		if at, ok := strings.CutPrefix(line, stepPrefix); ok && isStep(at) {
			if o.at = at; !strings.HasSuffix(at, againSuffix) {
				n, _ := strings.CutPrefix(at, expecting)
				o.trying, _ = strconv.Atoi(n) // 0 for other steps
			}
			continue
		}
		if file, ok := strings.CutPrefix(line, foundPrefix); ok && filepath.IsAbs(file) && len(file) <= 4096 {
			o.found = file
			continue
		}
		if i == len(lines)-2 && rest == "" && json.Unmarshal([]byte(line), &o.result) == nil && o.Nonce == nonce && (o.Kind == fit || o.Kind == unfit || o.Kind == transient) {
			return
		}
		wrong("wrote what is no result where its result belongs")
		return
	}
	wrong("ended without a result")
}

// stepPrefix begins a line that says what comes next, foundPrefix one that says which file was loaded.
const (
	stepPrefix  = "at "
	foundPrefix = "found "
)

func isStep(s string) bool { return s != "" && len(s) <= 200 }
