// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"
	"math"
	"unsafe"
)

// Pinned are values in memory of the program from and to which copies to a device run at the speed of the bus: other memory is copied twice on the way. They are for calls that pass slices to kernels of a
// device over and over; where there is no device they are an ordinary slice. See docs/cuda.md for what that is worth.
type Pinned struct {
	values []float32
	unpin  func() error
}

// NewPinned returns n values, all 0, in memory that belongs to the first device: no other process can have it until Close. Errors: ErrArgument for n < 1; ErrMemory when the system has not so much to pin; ErrLost and ErrClosed.
func (rt *Runtime) NewPinned(n int) (*Pinned, error) {
	if n < 1 || n > math.MaxInt/8 {
		return nil, fmt.Errorf("pinned memory for %d values: %w", n, ErrArgument)
	}
	rt.traffic.enter() // Close waits
	defer rt.traffic.leave()
	if rt.closed.Load() {
		return nil, fmt.Errorf("pinned memory for %d values: %w", n, ErrClosed)
	}
	for _, d := range rt.devices {
		if d.lost.Load() != nil {
			continue
		}
		b, err := d.memory.Pin(4 * n)
		if err != nil {
			return nil, err
		}
		clear(b)
		return &Pinned{unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n), func() error {
			rt.traffic.enter()
			defer rt.traffic.leave()
			if rt.closed.Load() {
				return nil // it went with the device
			}
			return d.memory.Unpin(b)
		}}, nil
	}
	return &Pinned{values: make([]float32, n)}, nil
}

// Values are the values, as long as the runtime and p are open.
func (p *Pinned) Values() []float32 { return p.values }

// Close gives the memory back. No slice of it may be used any more, not even to read: it may be gone. It may be called more than once.
func (p *Pinned) Close() error {
	unpin := p.unpin
	p.values, p.unpin = nil, nil
	if unpin == nil {
		return nil
	}
	return unpin()
}
