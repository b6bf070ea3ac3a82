// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
)

// State says what became of a candidate.
type State string

// The states.
const (
	Missing State = "missing" // no such file
	Refused State = "refused" // there, but not to be loaded
	Failed  State = "failed"  // loaded, but the handshake failed
	Loaded  State = "loaded"
)

// Attempt tells of one file that was tried.
type Attempt struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Origin  string   `json:"origin"` // why this place was looked at
	State   State    `json:"state"`
	Reason  string   `json:"reason,omitempty"`
	Version string   `json:"version,omitempty"`
	Build   string   `json:"build,omitempty"`
	Kernels []string `json:"kernels,omitempty"`
	Err     error    `json:"-"`
}

// Load opens the library called name from the first place that has it. A file that is there but cannot be used ends the
// search: an older copy further on must not hide it. The backend is nil when nothing was loaded.
func Load(name string, places []Place) (*Backend, []Attempt) {
	var tried []Attempt
	for _, p := range places {
		path := p.Path
		if !p.File {
			path = filepath.Join(p.Path, FileName(name))
		}
		b, a := open(path)
		a.Name, a.Origin = name, p.Origin
		if tried = append(tried, a); a.State != Missing {
			return b, tried
		}
	}
	return nil, tried
}

// open checks, loads and binds one file.
func open(path string) (*Backend, Attempt) {
	a := Attempt{Path: path}
	fail := func(s State, err error) (*Backend, Attempt) {
		a.State, a.Reason, a.Err = s, err.Error(), err
		return nil, a
	}
	if !filepath.IsAbs(path) {
		return fail(Refused, refuse("the path is not absolute"))
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fail(Missing, fmt.Errorf("no such file%w", hidden{backends.ErrLibrary}))
		}
		return fail(Refused, fmt.Errorf("%w: %w", backends.ErrLibrary, err))
	}
	defer f.Close()
	if err := verify(f); err != nil {
		return fail(Refused, err)
	}
	entry, err := dlopen(path, "setun_backend") // a library without it is not a backend
	if err != nil {
		return fail(Refused, err)
	}
	var b *Backend
	if failed := Undisturbed("when it was opened", func() { b, err = handshake(entry) }); failed != nil {
		err = failed
	}
	if err != nil {
		return fail(Failed, err)
	}
	a.State, a.Version, a.Build = Loaded, b.version, b.build
	for _, k := range b.kernels {
		a.Kernels = append(a.Kernels, k.Op.String()+"/"+k.Name)
	}
	return b, a
}

// handshake asks for the table and reads it, trusting no field before it has been checked.
func handshake(entry uintptr) (*Backend, error) {
	r, _, _ := purego.SyscallN(entry, version)
	t := *(**table)(unsafe.Pointer(&r))
	mismatch := func(field string, found, want any) error {
		return fmt.Errorf("%w: %s is %v, wanted %v: rebuild the library and the program from the same source", backends.ErrABIMismatch, field, found, want)
	}
	switch {
	case t == nil:
		return nil, fmt.Errorf("%w: the library does not serve version %d on this machine", backends.ErrABIMismatch, version)
	case t.magic != magic:
		return nil, mismatch("magic", fmt.Sprintf("%#x", t.magic), fmt.Sprintf("%#x", magic))
	case uintptr(t.size) < minTable:
		return nil, mismatch("table size", t.size, fmt.Sprintf("at least %d", minTable))
	case t.abi != version:
		return nil, mismatch("version", t.abi, version)
	case uintptr(t.kernelSize) < unsafe.Sizeof(kernelEntry{}):
		return nil, mismatch("kernel size", t.kernelSize, fmt.Sprintf("at least %d", unsafe.Sizeof(kernelEntry{})))
	case t.kernelCount > 0 && t.kernels == nil, t.kernelCount > maxKernels:
		return nil, mismatch("kernel count", t.kernelCount, fmt.Sprintf("a table of at most %d", maxKernels))
	case (t.open == 0) != (t.close == 0):
		return nil, fmt.Errorf("%w: open and close must both be there, or neither", backends.ErrLibrary)
	}
	b := &Backend{name: text(t.name, maxText), version: text(t.version, maxText), build: text(t.build, maxText), closer: t.close}
	for i := range uintptr(t.kernelCount) {
		k := (*kernelEntry)(unsafe.Add(t.kernels, i*uintptr(t.kernelSize)))
		if k.run == 0 || k.name == nil {
			return nil, fmt.Errorf("%w: kernel %d has no name or no entry", backends.ErrLibrary, i)
		}
		op := backends.Op(k.op)
		if k.op > 255 || op.String() == "unknown op" {
			continue // of a newer header
		}
		b.kernels = append(b.kernels, backends.Kernel{Op: op, Name: text(k.name, maxText), Threads: int(k.threads), Index: len(b.entries)})
		b.entries = append(b.entries, k.run)
	}
	if t.open != 0 {
		var message [messageSize]byte
		rc, _, _ := purego.SyscallN(t.open, uintptr(unsafe.Pointer(&b.state)), uintptr(unsafe.Pointer(&message)), messageSize)
		if int32(rc) != statusOK {
			return nil, fmt.Errorf("%w: open failed with code %d: %s", backends.ErrLibrary, int32(rc), text(&message[0], messageSize))
		}
	}
	return b, nil
}

// hidden wraps an error for errors.Is without adding to the text: that a file is not there is no refusal.
type hidden struct{ error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.error }

const (
	maxKernels  = 1024
	messageSize = 192
)
