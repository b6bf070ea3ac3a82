// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
)

// Quarantined is the state of a library that brought a process down, or gave wrong results, some time before.
const Quarantined State = "quarantined"

// Gate decides about a library whose file has been checked, before anything in it runs.
type Gate interface {
	// Admit says what the library may be used for, or with an error that it must not be loaded, and which state that is.
	Admit(c Candidate) (Pass, State, error)
}

// Candidate is a library whose file is held open.
type Candidate struct {
	Name, Path string
	Digest     string // SHA-256, in hexadecimal
	File       *os.File
	ByPath     bool // the loader cannot be given the descriptor
	Others     bool // it is no part of Setun: all of its kernels are used
}

// Pass is what a Gate gives for a library that may be loaded.
type Pass struct {
	Withheld map[backends.Op]string // ops whose kernels must not be used, and why
	Identity string                 // under which a library that is no backend is remembered
	Kernels  int                    // that were tested
	Took     time.Duration          // by the probe
	Source   string                 // "probe" now, "process" before in this one, "disk" by another one, "off"

	Unchanged func() error // fails when a file that is loaded by its path is another one now; nil where there is no file
}

// Guarded returns the places with a gate that libraries from there must pass.
func Guarded(places []Place, g Gate) []Place {
	places = slices.Clone(places)
	for i := range places {
		places[i].Gate = g
	}
	return places
}

// pass asks the gate, if there is one, and notes in the attempt what it says.
func pass(p Place, file *admit.File, name string, a *Attempt) (State, error) {
	if p.Gate == nil {
		return "", nil
	}
	let, state, err := p.Gate.Admit(Candidate{Name: name, Path: file.Path, Digest: a.Digest, File: file.File, ByPath: file.ByPath(), Others: p.Others})
	if err == nil {
		a.Pass = let
	}
	return state, err
}

// withhold takes the kernels away that the gate has not let pass, and says so.
func (l *Library) withhold(a *Attempt) {
	withheld := a.Pass.Withheld
	l.kernels = slices.DeleteFunc(l.kernels, func(k backends.Kernel) bool { return withheld[k.Op] != "" })
	for _, op := range backends.Ops() {
		if why := withheld[op]; why != "" {
			if a.Reason != "" {
				a.Reason += "; "
			}
			a.Reason += why
		}
	}
}

// OpenChecked loads a library whose file has been checked, and reads its table. It is for probes, which are there to crash. With an error it returns the state; loader says that it was the system's
// loader that refused the library, which may be no fault of the library's.
func OpenChecked(path string) (l *Library, state State, loader bool, err error) {
	entry, err := dlopen(path, entryPoint)
	if err != nil {
		return nil, Refused, !errors.Is(err, errNoEntry) && !errors.Is(err, ErrFloatEnvironment), err
	}
	if failed := Undisturbed("when it was asked for its kernels", func() { l, err = handshake(entry) }); failed != nil {
		err = failed
	}
	if err != nil {
		return nil, Failed, false, err
	}
	return l, Loaded, false, nil
}

// Version returns what the library says of itself.
func (l *Library) Version() (version, build string) { return l.version, l.build }

// HasDevices says whether the library works on devices, which OpenDevice opens; others are opened by Open.
func (l *Library) HasDevices() bool { return l.device != nil }

// Open opens a context of a library that works in the host's memory.
func (l *Library) Open() (*Backend, error) { return l.context(l.name, l.open) }

// Digest returns that of the library's file, empty when it was not taken.
func (b *Backend) Digest() string { return b.lib.digest }

// errNoEntry is wrapped by the error for a library without the entry point.
var errNoEntry = fmt.Errorf("%w: no symbol", backends.ErrLibrary)

// entryPoint is what makes a library a backend.
const entryPoint = "setun_backend"

// Contract names the version of the ABI that this program serves.
func Contract() string { return fmt.Sprintf("abi %d", version) }
