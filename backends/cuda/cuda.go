// SPDX-License-Identifier: Apache-2.0

// Package cuda binds the library for NVIDIA GPUs, native/cuda. The library needs no CUDA to be built and the driver alone to run.
//
// Each device is a backend of its own: "cuda", "cuda:1" and so on. Its kernels take arrays of the host, which they copy to the device and back, and buffers on the device alike. They
// give the bits of pure Go, but for those that are marked fast.
package cuda

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
)

// Name is the backend's name and the stem of its file name.
const Name = "cuda"

// DevicesVariable is the environment variable that chooses devices: "all", "none", or ordinals, "0,1".
const DevicesVariable = "SETUN_CUDA_DEVICES"

// maxDevices is how many there may be: the dispatcher knows that many memories beside the host's.
const maxDevices = 7

// All stands for every device that there is.
const All = -1

// Parse reads a list of devices as DevicesVariable has it. Nothing at all is device 0.
func Parse(text string) (ordinals []int, err error) {
	switch strings.TrimSpace(text) {
	case "":
		return []int{0}, nil
	case "all":
		return []int{All}, nil
	case "none":
		return nil, nil
	}
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 31) // takes no sign
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of devices such as 0,1, nor all, nor none: %w", text, backends.ErrArgument)
		}
		ordinals = append(ordinals, int(n))
	}
	return ordinals, nil
}

// NameOf returns the name of a device's backend.
func NameOf(ordinal int) string {
	if ordinal == 0 {
		return Name
	}
	return fmt.Sprintf("%s:%d", Name, ordinal)
}

// Fast is which kernels of fast numerics are wanted. The zero value is none.
type Fast struct {
	Wanted bool
	CUBLAS string // the absolute path of cuBLAS; "": the first that the system's loader knows; "none"
}

// Open loads the library from the first of the places that has it and opens devices by their ordinals; All opens every one. The backends' kernels work in the memories 1, 2, …, in that
// order; those of fast numerics are among them if they are wanted, and only then cuBLAS is looked for. Without ordinals nothing is looked for. On a machine without driver or device there is no backend, and the attempt says
// so without being a failure.
func Open(places []plugin.Place, ordinals []int, fast Fast) ([]backends.Backend, []plugin.Attempt) {
	if len(ordinals) == 0 {
		return nil, nil
	}
	lib, tried := plugin.LoadLibrary(Name, places)
	if lib == nil {
		return nil, tried
	}
	found := tried[len(tried)-1]
	tried = tried[:len(tried)-1]
	count, reason := lib.Devices()
	if count == 0 {
		found.State, found.Reason, found.Kernels = plugin.NoDevice, reason, nil
		return nil, append(tried, found)
	}
	var list []backends.Backend
	for _, ordinal := range chosen(ordinals, count) {
		a := found
		a.Name = NameOf(ordinal)
		b, err := open(lib, ordinal, count, len(list)+1)
		if err != nil {
			a.Fail(err)
			tried = append(tried, a)
			continue
		}
		b.Restrict(func(k backends.Kernel) bool { return fast.Wanted || !k.Fast })
		attached := attach(b, fast)
		a.List(b.Kernels())
		list = append(list, b)
		tried = append(append(tried, a), attached...)
	}
	return list, tried
}

// chosen lists each ordinal once, with All for those of every device.
func chosen(ordinals []int, count int) (list []int) {
	seen := map[int]bool{}
	add := func(n int) {
		if !seen[n] {
			seen[n] = true
			list = append(list, n)
		}
	}
	for _, n := range ordinals {
		if n != All {
			add(n)
			continue
		}
		for i := range min(count, maxDevices) {
			add(i)
		}
	}
	return list
}

func open(lib *plugin.Library, ordinal, count, memory int) (*plugin.Backend, error) {
	switch {
	case ordinal < 0 || ordinal >= count:
		return nil, fmt.Errorf("%w: there is no device %d, of %d", backends.ErrLibrary, ordinal, count)
	case memory > maxDevices:
		return nil, fmt.Errorf("%w: %d devices are open, more are not possible", backends.ErrLibrary, maxDevices)
	}
	return lib.OpenDevice(NameOf(ordinal), ordinal, uint8(memory))
}
