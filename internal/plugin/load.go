// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
)

// State says what became of a candidate.
type State string

// The states.
const (
	Missing State = "missing" // no such file
	Refused State = "refused" // there, but not to be loaded
	Failed  State = "failed"  // loaded, but the handshake failed
	Loaded  State = "loaded"

	NoDevice State = "no device" // loaded, but this machine has nothing that it could run on: no failure
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

	Digest   string `json:"digest,omitempty"`  // SHA-256 of the file, once that is known to be nobody else's
	Manifest bool   `json:"manifest"`          // it is the digest that was noted when the library was installed
	Pass     Pass   `json:"-"`                 // what the gate said of it
	ByPath   bool   `json:"by_path,omitempty"` // it could not be loaded by its descriptor: a swap at that moment would be noticed afterwards
}

// Library is a loaded library whose table has been read. It serves as many contexts as are opened.
type Library struct {
	name, version, build string
	digest               string // of its file
	kernels              []backends.Kernel
	entries              []uintptr // by Kernel.Index
	iterates             []bool    // likewise: the kernel has SETUN_KMEANS_ITERATE and SETUN_KMEANS_SEED
	open, close          uintptr
	device               *deviceTable // nil: it works in the host's memory
}

// Load opens the library called name from the first place that has it. A file that is there but cannot be used ends the
// search: an older copy further on must not hide it. The backend is nil when nothing was loaded.
func Load(name string, places []Place) (*Backend, []Attempt) {
	l, tried := LoadLibrary(name, places)
	if l == nil {
		return nil, tried
	}
	b, err := l.context(l.name, l.open)
	if err != nil {
		tried[len(tried)-1].Fail(err)
	}
	return b, tried
}

// LoadLibrary is Load without a context: what it found is opened device by device, by OpenDevice.
func LoadLibrary(name string, places []Place) (*Library, []Attempt) {
	var tried []Attempt
	for _, p := range places {
		path := p.Path
		if !p.File {
			path = filepath.Join(p.Path, FileName(name))
		}
		l, a := load(path, name, p)
		a.Name, a.Origin = name, p.Origin
		if tried = append(tried, a); a.State != Missing {
			return l, tried
		}
	}
	return nil, tried
}

// Fail notes that what was loaded could not be opened.
func (a *Attempt) Fail(err error) {
	a.State, a.Reason, a.Err, a.Kernels = Failed, err.Error(), err, nil
}

// List notes the kernels that are to be used.
func (a *Attempt) List(kernels []backends.Kernel) {
	a.Kernels = nil
	for _, k := range kernels {
		a.Kernels = append(a.Kernels, k.Op.String()+"/"+k.Name)
	}
}

// load checks and loads one file, and reads its table.
func load(path, name string, place Place) (*Library, Attempt) {
	a := Attempt{Path: path}
	fail := func(s State, err error) (*Library, Attempt) {
		a.State, a.Reason, a.Err = s, err.Error(), err
		return nil, a
	}
	file, err := admit.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(Missing, fmt.Errorf("no such file%w", hidden{backends.ErrLibrary}))
	case err != nil:
		return fail(Refused, err)
	}
	defer file.Close()
	a.Digest, a.Manifest, a.ByPath = file.Digest.String(), file.Manifest, file.ByPath()
	// Here the file has been checked and is held, and nothing in it has run yet.
	if state, err := pass(place, file, name, &a); err != nil {
		return fail(state, err)
	}
	entry, err := openAdmitted(file, entryPoint)
	if err != nil {
		return fail(Refused, err)
	}
	var l *Library
	if failed := Undisturbed("when it was asked for its kernels", func() { l, err = handshake(entry) }); failed != nil {
		err = failed
	}
	if err != nil {
		return fail(Failed, err)
	}
	a.State, a.Version, a.Build = Loaded, l.version, l.build
	l.digest = a.Digest
	l.withhold(&a)
	a.List(l.kernels)
	return l, a
}

// context opens a context by the given entry, 0 for none.
func (l *Library) context(name string, open uintptr, ordinal ...uintptr) (*Backend, error) {
	b := &Backend{lib: l, name: name, kernels: slices.Clone(l.kernels), entries: l.entries}
	if open == 0 {
		return b, nil
	}
	message := new([messageSize]byte)
	argv := append([]uintptr{uintptr(unsafe.Pointer(&b.state))}, ordinal...)
	argv = append(argv, uintptr(unsafe.Pointer(message)), messageSize)
	var rc int32
	failed := Undisturbed("when it was opened", func() {
		r, _, _ := purego.SyscallN(open, argv...)
		rc = int32(r)
	})
	reason := text(&message[0], messageSize)
	switch {
	case failed != nil:
		return nil, failed
	case rc == statusNoMemory || rc == statusLost:
		return nil, fmt.Errorf("%w: open failed with code %d: %s", sentinel(rc), rc, reason)
	case rc != statusOK:
		return nil, fmt.Errorf("%w: open failed with code %d: %s", backends.ErrLibrary, rc, reason)
	}
	return b, nil
}

// hidden wraps an error for errors.Is without adding to the text: that a file is not there is no refusal.
type hidden struct{ error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.error }

const messageSize = 192
