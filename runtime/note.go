// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	goruntime "runtime"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/probe"
	"github.com/setun-compute/setun/internal/quarantine"
)

// noteCalls makes the memory in which calls of libraries' kernels are noted while they run. A kernel of no library, or of one that is not remembered, is not noted.
func (rt *Runtime) noteCalls() {
	if rt.guard == nil {
		return
	}
	var list []quarantine.Kernel
	var noted []*arm
	for _, arms := range rt.arms {
		for _, m := range arms {
			if l, ok := rt.guard.Known(digestOf(m.backend)); ok {
				list = append(list, quarantine.Kernel{Library: l, Op: m.kernel.Op.String(), Name: quarantine.Clean(m.kernel.Name, 64)})
				noted = append(noted, m)
			}
		}
	}
	var copiers []*copier
	for _, d := range rt.devices {
		if l, ok := rt.guard.Known(digestOf(rt.backends[d.home])); ok {
			list = append(list, quarantine.Kernel{Library: l, Op: quarantine.Copies, Name: quarantine.Clean(rt.backends[d.home].Name(), 64)})
			c := &copier{Device: d.memory, rt: rt, number: uint32(len(list))}
			d.memory, copiers = c, append(copiers, c)
		}
	}
	kernels := int(rt.gate.limit)
	rt.calls = rt.guard.Store().Calls(list, kernels+maxCopies*len(copiers))
	if len(rt.calls.Places) == 0 {
		return
	}
	for i, m := range noted {
		m.number = uint32(i + 1)
	}
	for i, c := range copiers {
		c.gate, c.places = newGate(maxCopies), rt.calls.Places[kernels+maxCopies*i:]
	}
}

// maxCopies is how many copies to and from a device may be at a time.
const maxCopies = 16

// copier is a device whose copies are noted while they last, by themselves or within a call.
type copier struct {
	backends.Device
	rt     *Runtime // has the places
	gate   *gate    // nil: they are not noted
	places []quarantine.Place
	number uint32
}

// Upload copies to the device.
func (c *copier) Upload(to backends.Address, from []byte) error {
	return c.noted(len(from), func() error { return c.Device.Upload(to, from) })
}

// Download copies from the device.
func (c *copier) Download(to []byte, from backends.Address) error {
	return c.noted(len(to), func() error { return c.Device.Download(to, from) })
}

// Copy copies within the device.
func (c *copier) Copy(to, from backends.Address, bytes int64) error {
	return c.noted(int(bytes), func() error { return c.Device.Copy(to, from, bytes) })
}

func (c *copier) noted(bytes int, do func() error) error {
	if c.gate == nil {
		return do()
	}
	i, err := c.gate.enter(context.Background()) // a call with a context that ends is left to itself, copies and all
	if err != nil {
		return err
	}
	defer c.gate.leave(i)
	probe.Note(&c.places[i], c.number, &dispatch.Shape{N: int64(bytes)})
	err = do()
	c.places[i].Kernel = 0
	goruntime.KeepAlive(c) // the places are unmapped when nobody has a way to the runtime any longer
	return err
}

// digestOf is the identity of the library that a backend is of, empty for none.
func digestOf(b backends.Backend) string {
	if l, ok := b.(interface{ Digest() string }); ok {
		return l.Digest()
	}
	return ""
}

// note says in a place that is the caller's alone what he is about to call. The process may end before the call does.
func (rt *Runtime) note(place int, m *arm, s *dispatch.Shape) {
	if m.number != 0 {
		probe.Note(&rt.calls.Places[place], m.number, s)
	}
}

func (rt *Runtime) unnote(place int, m *arm) {
	if m.number != 0 {
		rt.calls.Places[place].Kernel = 0
		goruntime.KeepAlive(rt)
	}
}
