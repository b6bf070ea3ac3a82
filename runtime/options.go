// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cuda"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/probe"
)

// Option configures Open.
type Option func(*config) error

// config is what the options fill in. The zero value, with what the environment says, is the default.
type config struct {
	native   bool
	learn    bool
	save     bool
	folders  []string
	isa      string
	force    string
	from     map[backends.Op]map[string]float64
	fixed    *dispatch.Fixed
	profile  string
	strict   bool
	observer func(Event)
	trace    string
	log      *slog.Logger
	fast     bool
	blas     string
	cublas   string
	cuda     []int // ordinals of devices
	asked    bool  // for those
	backends []backends.Backend
	recheck  int
	plugins  []plugin.Place
	probe    probe.Settings
	state    string // why nothing is remembered between processes
}

// WithoutNative stays in pure Go and looks for no library. By default libraries are looked for; see WithLibraries.
func WithoutNative() Option {
	return func(c *config) error { c.native = false; return nil }
}

// WithLibraries looks for native libraries in these folders first. They must be absolute. By default: SETUN_BACKEND_PATH, beside the executable, the user's data
// folder, /usr/local/lib/setun; never the current directory.
func WithLibraries(folders ...string) Option {
	return func(c *config) error {
		for _, f := range folders {
			if !filepath.IsAbs(f) {
				return fmt.Errorf("library folder %q is not absolute: %w", f, ErrArgument)
			}
		}
		c.folders = append(c.folders, folders...)
		return nil
	}
}

// WithoutProbe loads libraries without trying them in a process of their own first: a library that crashes when it is loaded, or in its first calls, takes the program with it. The report says so. By default each library is tried,
// once for each version of it; SETUN_PROBE=off sets the same. What is quarantined stays so. See docs/failure-modes.md.
func WithoutProbe() Option {
	return func(c *config) error { c.probe.Off = true; return nil }
}

// WithProbeHelper has another program started for the probes of libraries: any that uses this package, such as calibrate. By default, also settable by SETUN_PROBE_HELPER, this program is started once more, and ends before its
// main function. The path must be absolute, and nobody else may be able to write the file.
func WithProbeHelper(path string) Option {
	return func(c *config) error {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("probe helper %q is not absolute: %w", path, ErrArgument)
		}
		c.probe.Helper = path
		return nil
	}
}

// WithRecheck has a part of one in so many calls of each kernel computed again in pure Go and compared by ==: a row where rows stand for themselves, else the whole call when it is not too long. A kernel that has it otherwise is
// not used again in this process, and the next best one answers the call; where the call worked in place it fails with ErrWrong. Buffers on a device come home for that. Kernels of fast numerics are left out, and
// long calls of some ops (docs/failure-modes.md, "What is not computed again"). 0 compares nothing. By default it is one in 10,000; SETUN_RECHECK sets the same.
func WithRecheck(every int) Option {
	return func(c *config) error {
		if every < 0 {
			return fmt.Errorf("recheck of one in %d calls: %w", every, ErrArgument)
		}
		c.recheck = every
		return nil
	}
}

// WithBackend adds a backend made in Go, after those that Open finds. Its kernels compete like all others, so they must give the bits of pure Go: package backends/conform checks
// that. Close closes it. By default there is none.
func WithBackend(b backends.Backend) Option {
	return func(c *config) error {
		if b == nil {
			return fmt.Errorf("backend is nil: %w", ErrArgument)
		}
		c.backends = append(c.backends, b)
		return nil
	}
}

// WithISA keeps the SIMD kernels of one instruction set level: "avx512vbmi" (packed codes alone), "avx512vnni" (those and k-means), "avx512", "avx2", "sse42", "neondot" (packed codes alone), "neon" or "scalar". The default, also settable
// by SETUN_FORCE_ISA, is all levels that the machine has.
func WithISA(level string) Option {
	return func(c *config) error { c.isa = level; return nil }
}

// WithCUDA opens these CUDA devices by their ordinals, or all that there are when none is given: each is a backend of its own, "cuda" for device 0, "cuda:1" and so on. By default it is device 0, unless one
// instruction set level is asked for (WithISA); SETUN_CUDA_DEVICES=0,1 (or all, or none) sets the same. A machine without a GPU or its driver is no error, in strict mode neither.
func WithCUDA(devices ...int) Option {
	return func(c *config) error {
		c.cuda, c.asked = slices.Clone(devices), true
		for _, d := range devices {
			if d < 0 {
				return fmt.Errorf("CUDA device %d: %w", d, ErrArgument)
			}
		}
		if len(devices) == 0 {
			c.cuda = []int{cuda.All}
		}
		return nil
	}
}

// WithoutCUDA opens no CUDA device and loads no library for them. By default device 0 is opened; see WithCUDA.
func WithoutCUDA() Option {
	return func(c *config) error { c.cuda, c.asked = nil, true; return nil }
}

// devices takes the choice of CUDA devices from the environment.
func (c *config) devices(text string) (err error) {
	if c.cuda, err = cuda.Parse(text); err != nil {
		return fmt.Errorf("%s: %w", cuda.DevicesVariable, err)
	}
	c.asked = text != ""
	return nil
}

// WithForce uses one backend ("cpu") or kernel ("simd_c/avx2") for everything. By default the dispatcher chooses; SETUN_FORCE sets the same.
func WithForce(name string) Option {
	return func(c *config) error { c.force = name; return nil }
}

// WithMinimum lets a backend run an op only from a size on: values, or multiply-adds of an iteration for KMeans. By default there is no minimum.
func WithMinimum(op backends.Op, backend string, size float64) Option {
	return func(c *config) error {
		if !(size >= 0) {
			return fmt.Errorf("minimum size %v for %s: %w", size, backend, ErrArgument)
		}
		if c.from == nil {
			c.from = map[backends.Op]map[string]float64{}
		}
		if c.from[op] == nil {
			c.from[op] = map[string]float64{}
		}
		c.from[op][backend] = size
		return nil
	}
}

// WithThresholds decides by a fixed table in a file, as `calibrate export --thresholds` writes it: for each op which kernel runs from which size on. Nothing is learned then. A kernel that fails is replaced by the
// next best by prediction. Errors: ErrPolicy for a file that is damaged or names kernels that are not there. By default predictions decide.
func WithThresholds(path string) Option {
	return func(c *config) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("thresholds: %w", err)
		}
		if c.fixed, err = dispatch.DecodeFixed(data); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		c.learn = false
		return nil
	}
}

// WithProfile reads the machine's profile from a file, "" for none. By default it is SETUN_PROFILE or setun/profile.json in the user's cache folder. A
// profile that is missing, damaged or foreign is reported, and the runtime goes on with prior knowledge.
func WithProfile(path string) Option {
	return func(c *config) error {
		if path == "" {
			path = "none"
		}
		c.profile = path
		return nil
	}
}

// WithoutLearning leaves the predictions as the profile, or prior knowledge, has them. By default a runtime learns from its calls: what they took moves its predictions, and now and then one is run
// on a kernel that is not predicted to be fastest, to see whether it is, for at most a hundredth of the time spent. Learning itself takes less than another hundredth (docs/dispatcher.md has both measured). Results
// do not depend on it. SETUN_LEARN=off sets the same; WithForce leaves nothing to learn.
func WithoutLearning() Option {
	return func(c *config) error { c.learn = false; return nil }
}

// WithoutSaving keeps what is learned from the profile's file. By default Close merges it into that file (WithProfile), which many processes may share, once a hundred timed calls and a second of calls were learned from.
// SETUN_LEARN=unsaved sets the same.
func WithoutSaving() Option {
	return func(c *config) error { c.save = false; return nil }
}

// WithStrict makes Open fail when a library that is there cannot be used, and calls fail instead of moving to another backend.
func WithStrict() Option {
	return func(c *config) error { c.strict = true; return nil }
}

// Event tells of one finished call.
type Event struct {
	Op        string  // "quantize"
	Shape     string  // "1000000"
	Kernel    string  // "simd_c/avx512"
	Predicted float64 // nanoseconds; an iteration's for kmeans
	Measured  float64 // nanoseconds; the mean iteration's for kmeans
	Err       error
}

// WithObserver calls f after every call, on the caller's goroutine. Every call is then timed, which costs some tens of nanoseconds. f must not use buffers or mapped slices
// of the call: they are still the call's.
func WithObserver(f func(Event)) Option {
	return func(c *config) error { c.observer = f; return nil }
}

// WithLogger tells of what happens seldom: libraries and profiles that are refused, kernels that fail, rest, are well again or quarantined, and kernels that have become slower or faster. By default nothing is logged.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { c.log = l; return nil }
}

// WithTrace writes every call that ends well to a file, which must not exist yet (else path.2, path.3, … are tried): its shape, kernel and time, as lines of JSON, for `calibrate regret --trace`. Every call is then timed and written, which
// takes a microsecond or two. Close ends the file and returns an error if it could not be written. SETUN_TRACE sets the same; `calibrate record` does that.
func WithTrace(path string) Option {
	return func(c *config) error { c.trace = path; return nil }
}

// WithFastNumerics adds kernels whose results are not canonical, for calls that ask for them (MatMulOptions.Fast, KMeansOptions.Fast): the system's BLAS, those of a GPU and cuBLAS (not with WithoutNative), and gonum's matrix product. Calls
// that do not ask get canonical results as ever. By default there are none and neither BLAS nor cuBLAS is looked for. See WithBLAS and WithCUBLAS.
func WithFastNumerics() Option {
	return func(c *config) error { c.fast = true; return nil }
}

// WithBLAS says which BLAS fast numerics uses: the absolute path of a library, or "none". By default, also settable by SETUN_BLAS, it is the first of OpenBLAS, MKL and BLIS
// (Accelerate on macOS) that the system's loader knows.
func WithBLAS(path string) Option {
	return func(c *config) error {
		if path != "none" && !filepath.IsAbs(path) {
			return fmt.Errorf("BLAS %q is neither an absolute path nor \"none\": %w", path, ErrArgument)
		}
		c.blas = path
		return nil
	}
}

// WithCUBLAS says which cuBLAS fast numerics uses on CUDA devices: the absolute path of a library, or "none". By default, also settable by SETUN_CUBLAS, it is the first of
// libcublas.so.13, .12 and .11 that the system's loader knows. Where there is no device, none is looked for.
func WithCUBLAS(path string) Option {
	return func(c *config) error {
		if path != "none" && !filepath.IsAbs(path) {
			return fmt.Errorf("cuBLAS %q is neither an absolute path nor \"none\": %w", path, ErrArgument)
		}
		c.cublas = path
		return nil
	}
}
