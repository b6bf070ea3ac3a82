// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/setun-compute/setun/internal/durable"
)

// Bounds of a file of calls.
const (
	headSize    = 128 << 10 // for the text before the places
	placeSize   = int64(unsafe.Sizeof(Place{}))
	maxPlaces   = 4096
	maxKernels  = 4096
	maxKernel   = 64 // bytes of its name
	callsFormat = "setun calls 1"
)

// Dims is the number of sizes that a shape has here.
const Dims = 7

// Place says which call is in a kernel: its number in the file's list, counted from 1, and its shape. 0 is none. A call writes the number last, and takes it away first.
type Place struct {
	Kernel, Variant uint32
	Sizes           [Dims]int64
}

// Kernel is one that may be called: Op is one of the ops, or Copies.
type Kernel struct {
	Library
	Op   string `json:"op"`
	Name string `json:"kernel"`
}

func (k *Kernel) check() error {
	if err := k.Library.check(); err != nil {
		return err
	}
	if !isText(k.Name, 1, maxKernel) || k.Op == Load || !isOp(k.Op) && k.Op != Copies {
		return fmt.Errorf("%w: the kernel %s of %s", errInvalid, Clean(k.Name, maxKernel), k.Digest)
	}
	return nil
}

// Copies stands for copies to and from a device.
const Copies = "copies"

// Calls is what a process has in kernels, in memory that outlives it: a file in /dev/shm that it has mapped and locked. A call costs some stores. What was in it when a process ended is found by the next one.
type Calls struct {
	Places []Place // each belongs to whoever has taken it; empty: calls are not noted
	file   *os.File
}

// head is the text at the beginning of the file.
type head struct {
	Format  string   `json:"format"`
	Process process  `json:"process"`
	Kernels []Kernel `json:"kernels"`
}

// Calls makes the file for a runtime, with so many places. Where that cannot be done a note says so, and there are no places. Close it.
func (s *Store) Calls(kernels []Kernel, places int) *Calls {
	if s.folder == "" || len(kernels) == 0 {
		return new(Calls)
	}
	c, err := s.newCalls(kernels, places)
	if err != nil && !errors.Is(err, errNoMemory) {
		s.note("crashes in calls after a kernel's first go unnoticed: %v", err)
	}
	if err != nil {
		return new(Calls)
	}
	return c
}

func (s *Store) newCalls(kernels []Kernel, places int) (*Calls, error) {
	text, err := json.Marshal(head{callsFormat, self(), kernels})
	if err != nil {
		return nil, err
	}
	if len(text) >= headSize || places < 1 || places > maxPlaces || len(kernels) > maxKernels {
		return nil, fmt.Errorf("%d kernels and %d places are too many", len(kernels), places)
	}
	if err := usable(s.folder); err != nil {
		return nil, err
	}
	folder, err := memoryFolder()
	if err != nil {
		return nil, err
	}
	unlock, err := durable.Lock(filepath.Join(s.folder, prefix+"all"), lockWait) // nobody must find it before it is locked
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.CreateTemp(folder, s.callsPrefix())
	if err != nil {
		return nil, err
	}
	c := &Calls{file: f}
	fail := func(err error) (*Calls, error) {
		c.Close()
		return nil, err
	}
	if busy, err := durable.TryLock(f); busy || err != nil {
		return fail(fmt.Errorf("files cannot be locked in %s: %w", folder, err))
	}
	// Written and not merely made long: where there is no memory this is an error, and a store later on would end the process.
	if _, err := f.WriteAt(append(text, '\n'), 0); err != nil {
		return fail(err)
	}
	size := (int64(places)*placeSize + int64(os.Getpagesize()) - 1) &^ (int64(os.Getpagesize()) - 1)
	if _, err := f.WriteAt(make([]byte, size), headSize); err != nil {
		return fail(err)
	}
	memory, err := mapShared(f, headSize, int(size))
	if err != nil {
		return fail(err)
	}
	runtime.AddCleanup(c, unmap, memory) // and not by Close: whoever is late must not crash
	c.Places = unsafe.Slice((*Place)(unsafe.Pointer(unsafe.SliceData(memory))), places)
	return c, nil
}

// Close removes the file: what is noted afterwards is found by nobody. The places stay for as long as there is a way to c.
func (c *Calls) Close() {
	if c.file != nil {
		os.Remove(c.file.Name())
		c.file.Close()
	}
}

// flights returns what dead processes had in kernels, and the names of their files. The lock on those who make them is held. Of this process's own there is none: its files are locked.
func (s *Store) flights(folder string) (list []Flight, names []string) {
	for _, name := range s.callsFiles(folder) {
		f := openOurs(name)
		if f == nil {
			continue
		}
		if busy, err := durable.TryLock(f); !busy && err == nil {
			if data, err := io.ReadAll(io.LimitReader(f, headSize+maxPlaces*placeSize)); err == nil {
				list, names = append(list, readFlights(data, self().Boot)...), append(names, name)
			}
		}
		f.Close()
	}
	return list, names
}

// callsFiles lists the files of calls that belong to this folder of state.
func (s *Store) callsFiles(folder string) (list []string) {
	all, _ := os.ReadDir(folder)
	for _, e := range all {
		if strings.HasPrefix(e.Name(), s.callsPrefix()) {
			list = append(list, filepath.Join(folder, e.Name()))
		}
	}
	return list
}

// callsPrefix begins the names of files that belong to this folder of state, and this user.
func (s *Store) callsPrefix() string {
	return fmt.Sprintf("setun-%d-%016x-", os.Geteuid(), hash(s.folder))
}

// Flight is a call that a process had in a kernel when it ended.
type Flight struct {
	Kernel
	Process int         `json:"pid"` // its number
	Variant uint32      `json:"variant"`
	Sizes   [Dims]int64 `json:"sizes"`
}

// readFlights reads a file of calls: what is in its places, of a process of this boot of the machine. All fields are checked; of what is damaged nothing is believed.
func readFlights(data []byte, boot string) (list []Flight) {
	if len(data) < headSize {
		return nil
	}
	text, _, ended := strings.Cut(string(data[:headSize]), "\n")
	var h head
	if !ended || json.Unmarshal([]byte(text), &h) != nil || h.Format != callsFormat || h.Process.Boot != boot || len(h.Kernels) > maxKernels {
		return nil
	}
	for i := range h.Kernels {
		if h.Kernels[i].check() != nil {
			return nil
		}
	}
	for rest := data[headSize:]; len(rest) >= int(placeSize) && len(list) < maxPlaces; rest = rest[placeSize:] {
		n := binary.NativeEndian.Uint32(rest)
		if n == 0 || n > uint32(len(h.Kernels)) {
			continue
		}
		f := Flight{Kernel: h.Kernels[n-1], Process: h.Process.ID, Variant: binary.NativeEndian.Uint32(rest[4:])}
		for i := range f.Sizes {
			f.Sizes[i] = int64(min(binary.NativeEndian.Uint64(rest[8+8*i:]), math.MaxInt64))
		}
		if !slices.Contains(list, f) { // many calls of one process are one end of it
			list = append(list, f)
		}
	}
	return list
}
