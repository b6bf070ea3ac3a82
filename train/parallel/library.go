// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/internal/plugin"
)

// library is what is needed of a loaded MPI.
type library struct {
	path                                                                           string
	initThread, commRank, commSize, setHandler, errorString, gather, exchange, end uintptr
	world, bytes, returnErrors                                                     uintptr // handles
	message                                                                        message // that a call writes to
}

// Handles of MPICH's ABI are numbers; those of Open MPI are addresses of objects in the library.
const (
	mpichWorld        = 0x44000000
	mpichByte         = 0x4c00010d
	mpichErrorsReturn = 0x54000001
)

// mpich sets the handles of a library that says it has that ABI.
func (l *library) mpich() error {
	entry, err := plugin.Symbol(l.path, "MPI_Get_library_version")
	if err != nil {
		return err
	}
	b := &l.message
	r, _, _ := purego.SyscallN(entry, uintptr(unsafe.Pointer(&b.text)), uintptr(unsafe.Pointer(&b.length)))
	version, _, _ := strings.Cut(b.String(), "\n")
	for _, family := range []string{"MPICH", "Intel(R) MPI", "MVAPICH"} {
		if int32(r) == 0 && strings.HasPrefix(version, family) {
			l.world, l.bytes, l.returnErrors = mpichWorld, mpichByte, mpichErrorsReturn
			return nil
		}
	}
	return fmt.Errorf("%q has neither Open MPI's handles nor MPICH's", version)
}

// message is room for a text of MPI's: more than either library's MPI_MAX_ERROR_STRING, as much as MPICH's MPI_MAX_LIBRARY_VERSION_STRING.
type message struct {
	text   [8192]byte
	length int32
}

func (m *message) String() string { return string(m.text[:max(0, min(int(m.length), len(m.text)))]) }

// load finds a library's functions and handles. The library stays loaded.
func load(path string) (*library, error) {
	l := &library{path: path}
	for _, s := range []struct {
		name string
		to   *uintptr
	}{
		{"MPI_Init_thread", &l.initThread}, {"MPI_Comm_rank", &l.commRank}, {"MPI_Comm_size", &l.commSize}, {"MPI_Comm_set_errhandler", &l.setHandler}, {"MPI_Error_string", &l.errorString},
		{"MPI_Allgather", &l.gather}, {"MPI_Alltoall", &l.exchange}, {"MPI_Finalize", &l.end},
	} {
		var err error
		if *s.to, err = plugin.Symbol(path, s.name); err != nil {
			return nil, err
		}
	}
	if _, err := plugin.Symbol(path, "ompi_mpi_comm_world"); err != nil {
		return l, l.mpich()
	}
	for _, s := range []struct {
		name string
		to   *uintptr
	}{{"ompi_mpi_comm_world", &l.world}, {"ompi_mpi_byte", &l.bytes}, {"ompi_mpi_errors_return", &l.returnErrors}} {
		var err error
		if *s.to, err = plugin.Symbol(path, s.name); err != nil {
			return nil, err
		}
	}
	return l, nil
}
