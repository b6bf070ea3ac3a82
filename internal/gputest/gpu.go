// SPDX-License-Identifier: Apache-2.0

// Package gputest is a device for tests: pure Go on memory that is nobody else's.
package gputest

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// GPU is a backend with a device. Its fields are not to be changed or read while calls run.
type GPU struct {
	cpu.Backend
	Up, Down int   // values that were copied
	Calls    int   // of kernels
	Lists    int   // of KMeansMany
	Fails    error // of all that is asked
	Most     int   // buffers; 0: any number

	UploadFails, DownloadFails error // as Fails, of copies to the device, and from it, alone

	// Stale fills the program's slice with NaN where a kernel has written to the device's copy: whoever reads it without having brought it home will notice.
	Stale bool

	mutex  sync.Mutex
	memory map[backends.Address][]float32
	next   backends.Address
}

// New returns a device without buffers.
func New() *GPU { return &GPU{memory: map[backends.Address][]float32{}} }

// Buffers returns how many there are.
func (g *GPU) Buffers() int { return len(g.memory) }

// Name returns "gpu".
func (g *GPU) Name() string { return "gpu" }

// Kernels returns one for each op, in memory 1.
func (g *GPU) Kernels() []backends.Kernel {
	var list []backends.Kernel
	for _, op := range backends.Ops() {
		list = append(list, backends.Kernel{Op: op, Name: "k", Threads: 1, Memory: 1, Many: op == backends.OpKMeans})
	}
	return list
}

// Device returns g.
func (g *GPU) Device() backends.Device { return g }

// Info tells the name.
func (g *GPU) Info() (backends.DeviceInfo, error) { return backends.DeviceInfo{Name: "gpu"}, g.Fails }

// Alloc returns memory full of NaN.
func (g *GPU) Alloc(bytes int64) (backends.Address, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.Most > 0 && len(g.memory) >= g.Most {
		return 0, fmt.Errorf("alloc: %w", backends.ErrMemory)
	}
	g.next += 1 << 30
	x := make([]float32, bytes/4)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	g.memory[g.next] = x
	return g.next, g.Fails
}

// Free gives a buffer back.
func (g *GPU) Free(at backends.Address) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.memory[at] == nil {
		return fmt.Errorf("free of %x: %w", at, backends.ErrBackend)
	}
	delete(g.memory, at)
	return nil
}

// Upload copies to the device.
func (g *GPU) Upload(to backends.Address, from []byte) error {
	if g.UploadFails != nil {
		return g.UploadFails
	}
	g.count(&g.Up, len(from)/4)
	copy(backends.Bytes(g.at(to)), from)
	return g.Fails
}

// Download copies from the device.
func (g *GPU) Download(to []byte, from backends.Address) error {
	if g.DownloadFails != nil {
		return g.DownloadFails
	}
	g.count(&g.Down, len(to)/4)
	copy(to, backends.Bytes(g.at(from)))
	return g.Fails
}

// Copy is not supported.
func (g *GPU) Copy(to, from backends.Address, bytes int64) error { return backends.ErrUnsupported }

// Limit sets none.
func (g *GPU) Limit(int64) error { return nil }

// Pin returns memory like any other.
func (g *GPU) Pin(n int) ([]byte, error) { return make([]byte, n), nil }

// Unpin does nothing.
func (g *GPU) Unpin([]byte) error { return nil }

// Close does nothing.
func (g *GPU) Close() error { return nil }

// at is what an address points at, to the end of its buffer.
func (g *GPU) at(to backends.Address) []float32 {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	base := to >> 30 << 30
	return g.memory[base][(to-base)/4:]
}

func (g *GPU) count(what *int, n int) {
	g.mutex.Lock()
	*what += n
	g.mutex.Unlock()
}

// operand is a slice of an argument.
type operand struct {
	x       *[]float32
	at      backends.Address
	written bool
}

// on runs a kernel with the device's values in the place of slices.
func (g *GPU) on(operands []operand, run func() error) error {
	var stale [][]float32
	for _, o := range operands {
		if o.at != 0 {
			if o.written {
				stale = append(stale, *o.x)
			}
			*o.x = g.at(o.at)[:len(*o.x)]
		}
	}
	g.count(&g.Calls, 1)
	err := errors.Join(g.Fails, run())
	if g.Stale && err == nil {
		for _, x := range stale {
			for i := range x {
				x[i] = float32(math.NaN())
			}
		}
	}
	return err
}
