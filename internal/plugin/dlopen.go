// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/fenv"
)

// ErrFloatEnvironment is wrapped by the error for a library that changes how the processor rounds or treats subnormal values. It wraps backends.ErrLibrary.
var ErrFloatEnvironment = fmt.Errorf("%w: it changes the float environment", backends.ErrLibrary)

// Undisturbed calls f, which calls into a library, on one thread and puts the float environment back. The error wraps ErrFloatEnvironment when f changed it.
func Undisturbed(when string, f func()) error {
	if changed := fenv.Guard(f); changed != "" {
		return fmt.Errorf("%w: %s %s, as code built with -ffast-math does: build it without", ErrFloatEnvironment, changed, when)
	}
	return nil
}

// disturbing has the libraries that changed the float environment when they were loaded, by the address of their entry. Constructors run once in a process, so that the
// next attempt would look clean: this has to be process-wide.
var disturbing sync.Map

// dlopen opens a library and resolves its entry point. A library whose constructors change the float environment is refused, however often it is tried: it stays loaded, but
// nothing in it is called.
func dlopen(path, symbol string) (entry uintptr, err error) {
	failed := Undisturbed("when it was loaded", func() { entry, err = openSymbol(path, symbol) })
	if err != nil {
		return 0, err
	}
	if failed != nil {
		disturbing.Store(entry, failed)
	}
	if known, refused := disturbing.Load(entry); refused {
		return 0, known.(error)
	}
	return entry, nil
}

// openAdmitted opens a library that was checked, by its descriptor where that is possible. Where it is not, a file that took its place is noticed before it is loaded, or else afterwards: then nothing in it is called, but its constructors ran.
func openAdmitted(f *admit.File, symbol string) (uintptr, error) {
	if err := f.Unchanged(); err != nil {
		return 0, err
	}
	entry, err := dlopen(f.LoadPath(), symbol)
	if err != nil {
		return 0, renamed{err, f}
	}
	if err := f.Unchanged(); err != nil {
		return 0, err
	}
	return entry, nil
}

// renamed is an error of the loader that names the file as people know it.
type renamed struct {
	error
	file *admit.File
}

func (r renamed) Error() string {
	return strings.ReplaceAll(r.error.Error(), r.file.LoadPath(), r.file.Path)
}
func (r renamed) Unwrap() error { return r.error }

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backends.ErrLibrary, fmt.Sprintf(format, args...))
}
