// SPDX-License-Identifier: Apache-2.0

package backends

import "unsafe"

// Address is where something lies in a device's memory. Arithmetic with it is allowed, reading what it points at is not: that is the device's alone. 0 is nowhere.
//
// Where the argument of an op has XAt beside X and that is not 0, the values are there, in the kernel's memory; X is as long, of any content, and may be written to. The runtime sets it for kernels of a
// backend with a Device alone: all others find their values in X.
type Address uintptr

// Device is the memory of a backend that has one of its own. Methods are safe for concurrent use and return when they are done. Errors wrap ErrMemory when there is not enough, ErrLost when the
// device is gone, else ErrBackend.
type Device interface {
	Info() (DeviceInfo, error)
	Alloc(bytes int64) (Address, error)
	Free(at Address) error
	Upload(to Address, from []byte) error
	Download(to []byte, from Address) error
	Copy(to, from Address, bytes int64) error // within the device
	Limit(bytes int64) error                  // what the backend may take of the memory; 0: no limit
	Pin(bytes int) ([]byte, error)            // memory of the host's, not of Go's, from and to which copies are fastest
	Unpin(memory []byte) error                // of Pin
}

// DeviceInfo tells what a device is and how it is.
type DeviceInfo struct {
	Name     string `json:"name"`   // "NVIDIA H200"
	Driver   string `json:"driver"` // its version
	Ordinal  int    `json:"ordinal"`
	Total    int64  `json:"total"` // bytes of memory
	Free     int64  `json:"free"`  // of those
	Taken    int64  `json:"taken"` // by this process through the backend
	Units    int    `json:"units"` // multiprocessors
	Major    int    `json:"major"` // compute capability
	Minor    int    `json:"minor"`
	Launches int64  `json:"launches"`       // kernels started so far
	Lost     int64  `json:"lost,omitempty"` // the driver's error that the device was lost to; 0: it is there
}

// DeviceOf returns the memory of b's own, nil when b works in the host's.
func DeviceOf(b Backend) Device {
	if d, ok := b.(interface{ Device() Device }); ok {
		return d.Device()
	}
	return nil
}

// Bytes is a slice of numbers as the bytes of its memory.
func Bytes[E int8 | uint8 | int32 | int64 | float32 | float64](s []E) []byte {
	var e E
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(e)))
}
