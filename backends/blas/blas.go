// SPDX-License-Identifier: Apache-2.0

package blas

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/plugin"
)

// Name is the backend's name.
const Name = "blas"

// Variable is the environment variable that chooses the library: its absolute path, or "none".
const Variable = "SETUN_BLAS"

// names are what the system's loader is asked for, in this order.
func names() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"/System/Library/Frameworks/Accelerate.framework/Accelerate", "libopenblas.0.dylib"}
	case "windows":
		return nil
	}
	return []string{"libopenblas.so.0", "libmkl_rt.so.2", "libblis.so.4"}
}

// The values of CBLAS's enumerations.
const (
	rowMajor = 101
	noTrans  = 111
	trans    = 112
)

// sgemm is cblas_sgemm with 32-bit integers. Callees with 64-bit ones read the same values: integers are passed extended to registers and slots of that size.
type sgemm func(order, transA, transB, m, n, k int32, alpha float32, a *float32, lda int32, b *float32, ldb int32, beta float32, c *float32, ldc int32)

// Backend is a loaded BLAS. Its only op is matmul, and it is Fast.
type Backend struct {
	backends.Unsupported // a BLAS has matmul only

	kernel   backends.Kernel
	sgemm    sgemm
	identity string
}

var _ backends.Backend = (*Backend)(nil)

// Open loads a BLAS: the library at an absolute path, or with "" the first that the system's loader knows. "none" opens nothing. Each that is there must pass the gate, unless that is nil. The backend is
// nil when none was loaded; what was tried tells why, and wraps backends.ErrLibrary.
func Open(choice string, gate plugin.SystemGate) (*Backend, []plugin.Attempt) {
	origin, list := "system", names()
	switch {
	case choice == "none":
		return nil, nil
	case choice != "":
		origin, list = "option", []string{choice}
	}
	var tried []plugin.Attempt
	for _, name := range list {
		b, a := open(name, origin, gate)
		if tried = append(tried, a); b != nil {
			return b, tried
		}
	}
	return nil, tried
}

func open(name, origin string, gate plugin.SystemGate) (*Backend, plugin.Attempt) {
	a := plugin.Attempt{Name: Name, Path: name, Origin: origin}
	if origin == "option" && !filepath.IsAbs(name) {
		a.State, a.Err = plugin.Refused, fmt.Errorf("%w: the path is neither absolute nor \"none\"", backends.ErrLibrary)
		a.Reason = a.Err.Error()
		return nil, a
	}
	named := slices.Contains(names(), name) // also where the user chose it: macOS has no file at the path that is Accelerate's name
	if gate != nil {
		file, pass, state, err := gate.AdmitSystem(name, named)
		if err != nil {
			a.State, a.Reason, a.Err = state, err.Error(), err
			return nil, a
		}
		named = named && file == name && pass.Unchanged == nil
		a.Path, a.Pass = file, pass
	}
	return load(a, named, func(string) bool { return false })
}

// Try opens a library without a gate, by its path or, if it is named, by a name that the system's loader knows, and tests it. It is for probes, which are there to crash. As soon as it is loaded found is
// told which file that is, as far as the system knows; if that is enough the library is not tested, and there is neither a backend nor an error.
func Try(name string, named bool, found func(file string) (enough bool)) (*Backend, plugin.Attempt) {
	origin := "option"
	if named {
		origin = "system"
	}
	return load(plugin.Attempt{Name: Name, Path: name, Origin: origin}, named, found)
}

// load loads and tests the library at a's path, or of that name.
func load(a plugin.Attempt, named bool, found func(file string) (enough bool)) (*Backend, plugin.Attempt) {
	fail := func(s plugin.State, err error) (*Backend, plugin.Attempt) {
		a.State, a.Reason, a.Err = s, err.Error(), err
		return nil, a
	}
	symbol := func(name string) (uintptr, error) { return symbolOf(&a, named, name) }
	entry, err := symbol("cblas_sgemm")
	switch {
	case err != nil && a.Origin == "system" && !errors.Is(err, plugin.ErrFloatEnvironment) && !errors.Is(err, admit.ErrUnsafe):
		return fail(plugin.Missing, err)
	case err != nil:
		return fail(plugin.Refused, err)
	}
	if found(plugin.FileOf(entry)) {
		return nil, a
	}
	b := &Backend{kernel: backends.Kernel{Op: backends.OpMatMul, Name: "blas", Threads: runtime.NumCPU(), Fast: true}, identity: a.Pass.Identity}
	purego.RegisterFunc(&b.sgemm, entry)
	if failed := plugin.Undisturbed("in its self-test", func() {
		a.Version = b.identify(symbol, a.Path)
		err = selfTest(b)
	}); failed != nil {
		err = failed
	}
	if err != nil {
		return fail(plugin.Failed, err)
	}
	a.State, a.Kernels = plugin.Loaded, []string{b.kernel.Op.String() + "/" + b.kernel.Name}
	return b, a
}

// symbolOf looks up a symbol of the library at a's path, or of that name. What was tried must be what is loaded, as far as a path lets one see that.
func symbolOf(a *plugin.Attempt, named bool, symbol string) (entry uintptr, err error) {
	if named {
		return plugin.Named(a.Path, symbol)
	}
	if a.Pass.Unchanged == nil {
		return plugin.Symbol(a.Path, symbol)
	}
	if err := a.Pass.Unchanged(); err != nil {
		return 0, err
	}
	if entry, err = plugin.Symbol(a.Path, symbol); err != nil {
		return 0, err
	}
	return entry, a.Pass.Unchanged()
}

// identify names the kernel after the library and returns what the library says of itself.
func (b *Backend) identify(symbol func(name string) (uintptr, error), path string) (version string) {
	for _, known := range []struct{ kernel, symbol string }{{"openblas", "openblas_get_config"}, {"blis", "bli_info_get_version_str"}, {"mkl", "mkl_get_max_threads"}} {
		entry, err := symbol(known.symbol)
		if err != nil {
			continue
		}
		b.kernel.Name = known.kernel
		if known.kernel == "mkl" {
			return ""
		}
		var about func() *byte
		purego.RegisterFunc(&about, entry)
		version = plugin.Text(about())
	}
	if filepath.Base(path) == "Accelerate" {
		b.kernel.Name = "accelerate"
	}
	if entry, err := symbol("openblas_get_num_threads"); err == nil {
		var threads func() int32
		purego.RegisterFunc(&threads, entry)
		b.kernel.Threads = max(1, int(threads()))
	}
	return version
}

// Name returns "blas".
func (*Backend) Name() string { return Name }

// Digest returns the identity under which the gate remembers the library; empty without a gate.
func (b *Backend) Digest() string { return b.identity }

// Kernels returns one kernel, named after the library.
func (b *Backend) Kernels() []backends.Kernel { return []backends.Kernel{b.kernel} }

// Close does nothing: libraries stay loaded.
func (*Backend) Close() error { return nil }

// MatMul calls cblas_sgemm for each product of the batch. Sizes of 2^31 and more are ErrUnsupported. A context is looked at between products only.
func (b *Backend) MatMul(k backends.Kernel, a *backends.MatMul) error {
	if max(a.M, a.N, a.K, a.LDA, a.LDB, a.LDC) > math.MaxInt32 {
		return backends.Fail(backends.ErrUnsupported, k.Op, a.Shape(), "cblas_sgemm has sizes of 32 bits")
	}
	transA, transB, beta := int32(noTrans), int32(noTrans), float32(0)
	if a.TransA {
		transA = trans
	}
	if a.TransB {
		transB = trans
	}
	if a.Accumulate {
		beta = 1
	}
	for q := range a.Batch {
		if a.Cancel != nil && a.Cancel.Load() != 0 {
			return context.Canceled
		}
		b.sgemm(rowMajor, transA, transB, int32(a.M), int32(a.N), int32(a.K), 1, &a.A[q*a.StrideA], int32(a.LDA), &a.B[q*a.StrideB], int32(a.LDB), beta, &a.C[q*a.StrideC], int32(a.LDC))
	}
	return nil
}
