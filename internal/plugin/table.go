// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
)

// Bounds of what a table may say, so that however it is damaged little is read.
const (
	maxKernels    = 1024
	maxKernelSize = 4096 // bytes of a kernel's entry
	maxName       = 64   // bytes of a name, as a profile takes it
)

// handshake asks for the table and reads it.
func handshake(entry uintptr) (*Library, error) {
	r, _, _ := purego.SyscallN(entry, version)
	return readTable(*(**table)(unsafe.Pointer(&r)))
}

// readTable trusts no field before it has been checked. It reads at least the table's first 8 bytes, then no more than the table says is there nor than is known here, and 512 bytes of a text at most; that pointers which are not null lead to as much it cannot know.
func readTable(t *table) (*Library, error) {
	mismatch := func(field string, found, want any) error {
		return fmt.Errorf("%w: %s is %v, wanted %v: rebuild the library and the program from the same source", backends.ErrABIMismatch, field, found, want)
	}
	switch {
	case t == nil:
		return nil, fmt.Errorf("%w: the library does not serve version %d on this machine", backends.ErrABIMismatch, version)
	case t.magic != magic:
		return nil, mismatch("magic", fmt.Sprintf("%#x", t.magic), fmt.Sprintf("%#x", magic))
	case uintptr(t.size) < minTable:
		return nil, mismatch("table size", t.size, fmt.Sprintf("at least %d", minTable))
	case t.abi != version:
		return nil, mismatch("version", t.abi, version)
	case uintptr(t.kernelSize) < minKernel:
		return nil, mismatch("kernel size", t.kernelSize, fmt.Sprintf("at least %d", minKernel))
	case t.kernelSize > maxKernelSize, uintptr(t.kernelSize)%unsafe.Alignof(kernelEntry{}) != 0:
		return nil, mismatch("kernel size", t.kernelSize, fmt.Sprintf("at most %d, in whole pointers", maxKernelSize))
	case t.kernelCount > 0 && t.kernels == nil, t.kernelCount > maxKernels:
		return nil, mismatch("kernel count", t.kernelCount, fmt.Sprintf("a table of at most %d", maxKernels))
	case (t.open == 0) != (t.close == 0):
		return nil, fmt.Errorf("%w: open and close must both be there, or neither", backends.ErrLibrary)
	}
	l := &Library{name: text(t.name, maxText), version: text(t.version, maxText), build: text(t.build, maxText), open: t.open, close: t.close}
	if !isName(l.name) {
		return nil, fmt.Errorf("%w: its name %.80q is not %s", backends.ErrLibrary, l.name, names)
	}
	if err := l.readKernels(t); err != nil {
		return nil, err
	}
	if uintptr(t.size) < unsafe.Sizeof(table{}) || t.device == nil {
		return l, nil
	}
	if t.device.size < minDevice {
		return nil, mismatch("size of the device's table", t.device.size, fmt.Sprintf("at least %d", minDevice))
	}
	l.device = new(deviceTable) // a copy: the library's may end before ours
	size := min(uintptr(t.device.size), unsafe.Sizeof(*l.device))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(l.device)), size), unsafe.Slice((*byte)(unsafe.Pointer(t.device)), size))
	if d := l.device; slices.Contains([]uintptr{d.count, d.open, d.info, d.alloc, d.free, d.upload, d.download, d.copy, d.limit, l.close}, 0) {
		return nil, fmt.Errorf("%w: the device's table has holes", backends.ErrLibrary)
	}
	return l, nil
}

// readKernels reads the list of kernels, whose size and count have been checked.
func (l *Library) readKernels(t *table) error {
	type kernel struct {
		op   backends.Op
		name string
	}
	seen := map[kernel]bool{}
	for i := range uintptr(t.kernelCount) {
		k := (*kernelEntry)(unsafe.Add(t.kernels, i*uintptr(t.kernelSize)))
		if k.run == 0 || k.name == nil {
			return fmt.Errorf("%w: kernel %d has no name or no entry", backends.ErrLibrary, i)
		}
		op := backends.Op(k.op)
		if k.op > 255 || op.String() == "unknown op" {
			continue // of a newer header
		}
		// A profile holds models by these names, and is not saved at all with one that it would not read.
		name := text(k.name, maxText)
		if !isName(name) {
			return fmt.Errorf("%w: the name of kernel %d, %.80q, is not %s", backends.ErrLibrary, i, name, names)
		}
		if seen[kernel{op, name}] {
			return fmt.Errorf("%w: there are two kernels %s/%s", backends.ErrLibrary, op, name)
		}
		seen[kernel{op, name}] = true
		var flags uint32
		if uintptr(t.kernelSize) >= unsafe.Sizeof(kernelEntry{}) {
			flags = k.flags
		}
		l.kernels = append(l.kernels, backends.Kernel{Op: op, Name: name, Threads: int(k.threads), Index: len(l.entries), Fast: flags&fastFlag != 0, Many: op == backends.OpKMeans && flags&(iteratesFlag|gathersFlag) == iteratesFlag|gathersFlag})
		l.entries = append(l.entries, k.run)
		l.iterates = append(l.iterates, op == backends.OpKMeans && flags&iteratesFlag != 0)
	}
	return nil
}

// names says what isName takes.
const names = "1 to 64 characters of ASCII, without spaces and slashes"

// isName says whether a text can be the name of a library or a kernel.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' })
}
