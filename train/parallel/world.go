// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/internal/plugin"
)

// funneled is MPI_THREAD_FUNNELED in both ABIs: one thread calls, in a process that has others.
const funneled = 1

// world is this process among those of MPI. One goroutine, on a thread of its own, makes all calls.
type world struct {
	lib        *library
	rank, size int

	mutex    sync.Mutex // of callers
	requests chan request
	replies  chan error
	sent     int64
	failed   error // of the exchange that ended it

	// The goroutine's own. What the library writes to lies here and not on its stack, which may move before a call that was given an address.
	args    [7]uintptr // of the latest call
	numbers struct{ provided, rank, size int32 }
}

// request is an exchange: a gather, or blocks to each.
type request struct {
	function   uintptr
	name       string
	recv, send []byte
	block      int
}

// join begins MPI.
func join(lib *library, l *launch) (Peers, error) {
	w := &world{lib: lib, requests: make(chan request), replies: make(chan error)}
	go w.serve()
	if err := <-w.replies; err != nil {
		return nil, fmt.Errorf("parallel: %s: %w", lib.path, err)
	}
	if l.size > 0 && w.size != l.size {
		err := errors.Join(fmt.Errorf("parallel: %s has started %d processes, %s sees %d: it belongs to another MPI, or mpirun did not start this process: %w", l.by, l.size, lib.path, w.size, ErrWorld), w.Close())
		return nil, err
	}
	return w, nil
}

// serve is the goroutine that calls the library: MPI_THREAD_FUNNELED allows one thread, that which began.
func (w *world) serve() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	if changed := plugin.Undisturbed("in MPI_Init_thread", func() { err = w.begin() }); changed != nil && err == nil {
		err = fmt.Errorf("%w: %w", ErrLibrary, changed)
	}
	w.replies <- err
	if err != nil {
		return
	}
	for r := range w.requests {
		w.replies <- w.do(&r)
	}
	err = nil
	if w.failed == nil { // else others may never come, and the call would wait for them
		err = w.call("MPI_Finalize", w.lib.end)
	}
	w.replies <- err
}

func (w *world) begin() error {
	n := &w.numbers
	if err := w.call("MPI_Init_thread", w.lib.initThread, 0, 0, funneled, uintptr(unsafe.Pointer(&n.provided))); err != nil {
		return err
	}
	if n.provided < funneled {
		return fmt.Errorf("%w: it was built for programs of one thread", ErrLibrary)
	}
	if err := w.call("MPI_Comm_set_errhandler", w.lib.setHandler, w.lib.world, w.lib.returnErrors); err != nil {
		return err
	}
	if err := w.call("MPI_Comm_rank", w.lib.commRank, w.lib.world, uintptr(unsafe.Pointer(&n.rank))); err != nil {
		return err
	}
	if err := w.call("MPI_Comm_size", w.lib.commSize, w.lib.world, uintptr(unsafe.Pointer(&n.size))); err != nil {
		return err
	}
	w.rank, w.size = int(n.rank), int(n.size)
	return nil
}

func (w *world) do(r *request) error {
	count := uintptr(r.block)
	err := w.call(r.name, r.function, uintptr(unsafe.Pointer(unsafe.SliceData(r.send))), count, w.lib.bytes, uintptr(unsafe.Pointer(unsafe.SliceData(r.recv))), count, w.lib.bytes, w.lib.world)
	runtime.KeepAlive(r.send)
	runtime.KeepAlive(r.recv)
	return err
}

// call makes a call that returns MPI's code.
func (w *world) call(name string, function uintptr, args ...uintptr) error {
	n := copy(w.args[:], args)
	r, _, _ := purego.SyscallN(function, w.args[:n]...)
	if code := int32(r); code != 0 {
		return fmt.Errorf("%w: %s: %s", ErrExchange, name, w.text(code))
	}
	return nil
}

// text is what MPI says of a code.
func (w *world) text(code int32) string {
	b := &w.lib.message
	w.args[0], w.args[1], w.args[2] = uintptr(code), uintptr(unsafe.Pointer(&b.text)), uintptr(unsafe.Pointer(&b.length))
	r, _, _ := purego.SyscallN(w.lib.errorString, w.args[:3]...)
	if int32(r) != 0 {
		return fmt.Sprintf("code %d", code)
	}
	return b.String()
}

func (w *world) Rank() int { return w.rank }
func (w *world) Size() int { return w.size }

func (w *world) Sent() int64 {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.sent
}

func (w *world) Gather(all, mine []byte) error {
	if err := checkGather(w.size, all, mine); err != nil {
		return err
	}
	return w.ask(request{w.lib.gather, "MPI_Allgather", all, mine, len(mine)})
}

func (w *world) Exchange(recv, send []byte) error {
	if err := checkExchange(w.size, recv, send); err != nil {
		return err
	}
	return w.ask(request{w.lib.exchange, "MPI_Alltoall", recv, send, len(send) / w.size})
}

func (w *world) ask(r request) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	switch {
	case w.failed != nil:
		return fmt.Errorf("parallel: %w", w.failed)
	case w.requests == nil:
		return fmt.Errorf("parallel: %w", ErrClosed)
	case r.block == 0:
		return nil
	case r.block > math.MaxInt32: // what MPI's counts hold
		return fmt.Errorf("parallel: a block of %d bytes, at most %d can be sent: %w", r.block, math.MaxInt32, ErrArgument)
	}
	w.requests <- r
	if w.failed = <-w.replies; w.failed != nil {
		return fmt.Errorf("parallel: rank %d: %w", w.rank, w.failed)
	}
	w.sent += int64(w.size-1) * int64(r.block)
	return nil
}

// Close ends MPI when all ranks have come to it: one that has left with an error has mpirun end the others, whatever they are writing. When an exchange failed it does not wait, since others may not come.
func (w *world) Close() error {
	_ = w.Gather(make([]byte, w.size), []byte{0}) // to wait for each other; a failure is kept, and no error where MPI has been closed
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.requests == nil {
		return nil
	}
	close(w.requests)
	w.requests = nil
	if err := <-w.replies; err != nil {
		return fmt.Errorf("parallel: rank %d: %w", w.rank, err)
	}
	return nil
}
