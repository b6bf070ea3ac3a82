// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

// The Go mirror of native/include/setun/backend.h and device.h. A test compiles the headers and compares every size and offset.

const (
	magic   = 0x4e555453
	version = 1 // SETUN_ABI
)

// Results of a kernel.
const (
	statusOK          = 0
	statusInvalid     = 1
	statusNonFinite   = 2
	statusCancelled   = 3
	statusNoMemory    = 4
	statusUnsupported = 5
	statusLost        = 6
	statusClosed      = -1 // of the host's, as the next one: no library returns them
	statusWorkspace   = -2 // the workspace that it asked for has no possible size
)

type call struct {
	size, messageSize uint32
	message           *byte
	cancel            *int32
	badIndex          int64
}

type quantizeArgs struct {
	call
	levels, rule, format, _ uint32
	x                       *float32
	rows, cols, group       int64
	seed                    uint64
	out                     unsafe.Pointer
	scales                  *float32
}

type constrainArgs struct {
	call
	x, dst       *float32
	n            int64
	radius, norm float64
}

type reduceArgs struct {
	call
	x, y   *float32
	n      int64
	result float64
}

type kmeansArgs struct {
	call
	step, flags             uint32
	x                       *float32
	n, d, k                 int64
	mean, centroids, bias   *float32
	weights                 *float32
	scale                   *float64
	weightScale             float64
	low, high               *float32
	labels                  *int32
	distance                *float32
	sums, counts, weightSum *int64
	changed                 int64
	workspace               unsafe.Pointer
	workspaceSize           int64
	unit                    *float32
	exact                   int64
	next                    *float32
	iterations              int64
	limit                   float64
	stopped, _              uint32
	seed                    uint64
	problems                *problem
	problemCount            uint32
	problemSize             uint32
}

// problem mirrors setun_problem.
type problem struct {
	first, n           int64
	weightScale, limit float64
	iterations         int64
	changed, exact     int64
	flags, stopped     uint32
}

// Flags of kmeans: SETUN_KMEANS_KEEP_MIN, SETUN_KMEANS_MOVED.
const (
	keepMin = 1
	moved   = 2
)

type kernelEntry struct {
	name        *byte
	op, threads uint32
	run         uintptr
	flags, _    uint32
}

// minKernel is the size of a kernel's entry in the first libraries, which had no flags.
const minKernel = unsafe.Offsetof(kernelEntry{}.flags)

// Flags of a kernel: SETUN_FAST, SETUN_ITERATES, SETUN_GATHERS.
const (
	fastFlag     = 1
	iteratesFlag = 2
	gathersFlag  = 4
)

type table struct {
	magic, size, abi, kernelSize uint32
	name, version, build         *byte
	kernels                      unsafe.Pointer
	kernelCount, _               uint32
	open, close                  uintptr
	device                       *deviceTable
}

// minTable is the size of the table in the first libraries of ABI 1, which had no device; newer ones may have longer tables than ours.
const minTable = unsafe.Offsetof(table{}.device)

// memoryArgs mirrors setun_memory.
type memoryArgs struct {
	call
	device   backends.Address
	from, to unsafe.Pointer
	bytes    int64
}

// deviceInfo mirrors setun_device_info.
type deviceInfo struct {
	call
	name                         [128]byte
	driver                       [32]byte
	total, free                  int64
	ordinal, units, major, minor int32
	launches, lost, taken        int64
}

// libraryArgs mirrors setun_library.
type libraryArgs struct {
	call
	kernel, path *byte
	version      [32]byte
}

// deviceTable mirrors setun_device.
type deviceTable struct {
	size, _                                                                           uint32
	count, open, info, alloc, free, upload, download, copy, limit, pin, unpin, attach uintptr
}

// minDevice is the size of the device's table in the first libraries that had one; newer ones may have longer tables than ours.
const minDevice = uint32(unsafe.Offsetof(deviceTable{}.pin))

// maxText bounds the strings that are read from a library.
const maxText = 512

// text copies a C string of at most most bytes.
func text(p *byte, most int) string {
	var b []byte
	for i := 0; p != nil && i < most; i++ {
		c := *(*byte)(unsafe.Add(unsafe.Pointer(p), i))
		if c == 0 {
			break
		}
		b = append(b, c)
	}
	return string(b)
}
