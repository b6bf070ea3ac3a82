// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/selftest"
)

// CUBLASVariable is the environment variable that chooses cuBLAS: its absolute path, or "none".
const CUBLASVariable = "SETUN_CUBLAS"

// CUBLAS is the name of its kernels.
const CUBLAS = "cublas"

// versions are what the system's loader is asked for, in this order.
var versions = [...]string{"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"}

// attach gives a backend's kernels cuBLAS, the first of the possible ones that is there, or takes those kernels away that are nothing without.
func attach(b *plugin.Backend, fast Fast) (tried []plugin.Attempt) {
	var kernels []backends.Kernel
	for _, k := range b.Kernels() {
		if k.Name == CUBLAS {
			kernels = append(kernels, k)
		}
	}
	if len(kernels) == 0 {
		return nil
	}
	origin, list := "system", versions[:]
	switch {
	case fast.CUBLAS == "none":
		list = nil
	case fast.CUBLAS != "":
		origin, list = "option", []string{fast.CUBLAS}
	}
	for _, path := range list {
		a := attachOne(b, kernels, path, origin)
		if tried = append(tried, a); a.State == plugin.Loaded {
			return tried
		}
		if a.State != plugin.Missing {
			break // an older one must not hide it
		}
	}
	b.Restrict(func(k backends.Kernel) bool { return k.Name != CUBLAS })
	return tried
}

func attachOne(b *plugin.Backend, kernels []backends.Kernel, path, origin string) plugin.Attempt {
	a := plugin.Attempt{Name: b.Name() + "/" + CUBLAS, Path: path, Origin: origin}
	fail := func(s plugin.State, err error) plugin.Attempt {
		a.State, a.Reason, a.Err = s, err.Error(), err
		return a
	}
	real := path
	if origin == "option" {
		if !filepath.IsAbs(path) {
			return fail(plugin.Refused, fmt.Errorf("%w: the path is neither absolute nor \"none\"", backends.ErrLibrary))
		}
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			real = resolved // what is checked is what is loaded
		}
	}
	// Loaded here, where a file is checked and the float environment watched; what the backend opens by the same name is the same.
	_, err := plugin.Symbol(real, "cublasCreate_v2")
	switch {
	case err != nil && origin == "system" && !errors.Is(err, plugin.ErrFloatEnvironment):
		return fail(plugin.Missing, err)
	case err != nil:
		return fail(plugin.Refused, err)
	}
	if a.Version, err = b.Attach(CUBLAS, real); err != nil {
		return fail(plugin.Failed, err)
	}
	failures, err := selftest.Prepare(backends.OpMatMul).Run(b, kernels, func(backends.Kernel) {})
	switch {
	case err != nil:
		return fail(plugin.Failed, err)
	case len(failures) > 0:
		return fail(plugin.Failed, fmt.Errorf("%w: in its self-test: %v", backends.ErrLibrary, failures[0]))
	}
	a.State = plugin.Loaded
	a.List(kernels)
	return a
}
