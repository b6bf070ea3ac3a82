// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/setun-compute/setun/internal/admit"
)

// Variable is the environment variable that chooses the MPI library: its absolute path, or "none" for processes that train on their own, whoever started them.
const Variable = "SETUN_MPI"

// launch is what the environment says about how this process was started.
type launch struct {
	by    string   // variable that says so
	size  int      // 0: it does not say
	names []string // libraries that go with it
}

// Libraries by what they speak. Debian names MPICH's otherwise than MPICH does.
var (
	openMPI = map[string][]string{"linux": {"libmpi.so.40"}, "freebsd": {"libmpi.so.40"}, "darwin": {"libmpi.40.dylib", "/opt/homebrew/lib/libmpi.40.dylib"}}
	mpich   = map[string][]string{"linux": {"libmpi.so.12", "libmpich.so.12"}, "freebsd": {"libmpi.so.12"}, "darwin": {"libmpi.12.dylib", "/opt/homebrew/lib/libmpi.12.dylib"}}
)

// launched reads the environment; nil means that this process was started alone.
func launched(environment func(string) string) (*launch, error) {
	for _, v := range []struct {
		size, rank string // either says that there is a launcher
		names      []string
	}{
		{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", openMPI[runtime.GOOS]},
		{"PMI_SIZE", "PMI_RANK", append(append([]string{}, mpich[runtime.GOOS]...), openMPI[runtime.GOOS]...)},
		{"PMIX_SIZE", "PMIX_RANK", openMPI[runtime.GOOS]},
	} {
		text := environment(v.size)
		if environment(v.rank) != "" && text == "" {
			text = environment("SLURM_STEP_NUM_TASKS") // srun tells no size where its PMI does not
		}
		switch {
		case text != "":
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("parallel: %q processes, says the environment of %s: %w", text, v.rank, ErrWorld)
			}
			if n == 1 {
				return nil, nil
			}
			return &launch{v.rank, n, v.names}, nil
		case environment(v.rank) != "":
			return &launch{v.rank, 0, v.names}, nil
		}
	}
	return nil, nil
}

// Open joins the processes that mpirun started, when it started this one; else, or with one process, it returns Alone and loads nothing. Call it once in a process.
//
// Errors: ErrLibrary with all that was tried, ErrUnsupported on a system without known libraries and for a process with privileges that its user lacks, in which no MPI is loaded, ErrWorld when the library sees another number of processes than mpirun started: it belongs to another MPI then, or mpirun did not start this process.
func Open() (Peers, error) {
	if admit.Raised() {
		// Whoever started it chose the environment. Not that alone names a library: an MPI believes it in much more.
		if l, err := launched(os.Getenv); l != nil || err != nil {
			return nil, fmt.Errorf("parallel: the environment says that this is one of several processes, and is not believed: this process has privileges that its user lacks: %w", ErrUnsupported)
		}
		return Alone{}, nil
	}
	choice := admit.Getenv(Variable)
	if choice == "none" {
		return Alone{}, nil
	}
	l, err := launched(os.Getenv)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return Alone{}, nil
	}
	switch {
	case choice != "" && !filepath.IsAbs(choice):
		return nil, fmt.Errorf("parallel: %s = %q is neither an absolute path nor \"none\": %w", Variable, choice, ErrLibrary)
	case choice != "":
		l.names = []string{choice}
	case len(l.names) == 0:
		return nil, fmt.Errorf("parallel: %s is set, and there is no known MPI library for %s: %w", l.by, runtime.GOOS, ErrUnsupported)
	}
	var tried []error
	for _, name := range l.names {
		lib, err := load(name)
		if err != nil {
			tried = append(tried, fmt.Errorf("%s: %w", name, err))
			continue
		}
		return join(lib, l)
	}
	return nil, fmt.Errorf("parallel: %s says that this is one of several processes; install Open MPI or MPICH, or set %s to a library's path or to \"none\": %w: %w", l.by, Variable, ErrLibrary, errors.Join(tried...))
}
