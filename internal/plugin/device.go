// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/setun-compute/setun/backends"
)

// Device is the memory of a context's device.
type Device struct{ b *Backend }

var _ backends.Device = Device{}

// Device returns the backend's device, nil when it works in the host's memory.
func (b *Backend) Device() backends.Device {
	if b.lib.device == nil {
		return nil // not a Device in the interface
	}
	return Device{b}
}

// Devices returns how many devices a library can open now, and in words why there are none.
func (l *Library) Devices() (n int, reason string) {
	if l.device == nil {
		return 0, "the library works in the host's memory"
	}
	message := new([messageSize]byte)
	failed := Undisturbed("when it was asked for its devices", func() {
		r, _, _ := purego.SyscallN(l.device.count, uintptr(unsafe.Pointer(message)), messageSize)
		n = int(int32(r))
	})
	reason = strings.TrimSpace(text(&message[0], messageSize))
	switch {
	case failed != nil:
		return 0, failed.Error()
	case n > 0:
		return n, ""
	case reason != "":
	case n < 0:
		reason = fmt.Sprintf("code %d", -n)
	default:
		reason = "there is no device"
	}
	return 0, reason
}

// OpenDevice opens a context on a device of the library, as a backend of that name whose kernels work in that memory.
func (l *Library) OpenDevice(name string, ordinal int, memory uint8) (*Backend, error) {
	if l.device == nil {
		return nil, refuse("it has no devices")
	}
	b, err := l.context(name, l.device.open, uintptr(ordinal))
	if err != nil {
		return nil, err
	}
	for i := range b.kernels {
		b.kernels[i].Memory = memory
	}
	return b, nil
}

var (
	memoryBlocks = pool(func(a *memoryArgs) *call { return &a.call })
	infoBlocks   = pool(func(a *deviceInfo) *call { return &a.call })
)

// enter calls an entry of the device's table with a block.
func (x *block[A]) enter(b *Backend, entry uintptr) int32 {
	if b.closed.Load() {
		copy(x.message[:], "the backend was closed\x00")
		return statusClosed
	}
	x.argv[0] = b.state
	rc, _, _ := purego.SyscallN(entry, x.argv[:]...)
	return int32(rc)
}

// failure is the error of a device's operation.
func (d Device) failure(what string, bytes int64, rc int32, c *call) error {
	message := text(c.message, messageSize)
	*c.message = 0
	if rc == statusCancelled {
		return context.Canceled
	}
	e := &backends.Error{Op: what, Backend: d.b.name, Detail: fmt.Sprintf("code %d: %s", rc, message), Err: sentinel(rc)}
	if bytes > 0 {
		e.Shape = fmt.Sprintf("%d bytes", bytes)
	}
	return e
}

// Info tells what the device is and how it is.
func (d Device) Info() (backends.DeviceInfo, error) {
	x := infoBlocks.Get().(*block[deviceInfo])
	defer infoBlocks.Put(x)
	x.args = deviceInfo{call: x.args.call}
	if rc := x.enter(d.b, d.b.lib.device.info); rc != statusOK {
		return backends.DeviceInfo{}, d.failure("device info", 0, rc, &x.args.call)
	}
	p := &x.args
	return backends.DeviceInfo{
		Name: text(&p.name[0], len(p.name)), Driver: text(&p.driver[0], len(p.driver)), Ordinal: int(p.ordinal), Total: p.total, Free: p.free, Taken: p.taken,
		Units: int(p.units), Major: int(p.major), Minor: int(p.minor), Launches: p.launches, Lost: p.lost,
	}, nil
}

// memory does an operation on memory. cancel may be nil.
func (d Device) memory(what string, entry uintptr, m memoryArgs, cancel *int32) (backends.Address, error) {
	m, err := d.operate(what, entry, m, cancel)
	return m.device, err
}

// operate returns the block as the operation left it, without what is the host's.
func (d Device) operate(what string, entry uintptr, m memoryArgs, cancel *int32) (memoryArgs, error) {
	x := memoryBlocks.Get().(*block[memoryArgs])
	common := x.args.call
	m.call = common
	m.cancel = cancel
	x.args = m
	var err error
	if rc := x.enter(d.b, entry); rc != statusOK {
		err = d.failure(what, m.bytes, rc, &x.args.call)
	}
	m = memoryArgs{device: x.args.device, to: x.args.to}
	x.args = memoryArgs{call: common}
	memoryBlocks.Put(x)
	return m, err
}

// Alloc returns memory of the device, of any content.
func (d Device) Alloc(bytes int64) (backends.Address, error) {
	at, err := d.memory("alloc", d.b.lib.device.alloc, memoryArgs{bytes: bytes}, nil)
	if err != nil {
		return 0, err
	}
	return at, nil
}

// Free gives back what Alloc returned.
func (d Device) Free(at backends.Address) error {
	_, err := d.memory("free", d.b.lib.device.free, memoryArgs{device: at}, nil)
	return err
}

// Upload copies to the device.
func (d Device) Upload(to backends.Address, from []byte) error { return d.upload(to, from, nil) }

func (d Device) upload(to backends.Address, from []byte, cancel *int32) error {
	if len(from) == 0 {
		return nil
	}
	_, err := d.memory("upload", d.b.lib.device.upload, memoryArgs{device: to, from: unsafe.Pointer(&from[0]), bytes: int64(len(from))}, cancel)
	return err
}

// Download copies from the device.
func (d Device) Download(to []byte, from backends.Address) error {
	if len(to) == 0 {
		return nil
	}
	_, err := d.memory("download", d.b.lib.device.download, memoryArgs{device: from, to: unsafe.Pointer(&to[0]), bytes: int64(len(to))}, nil)
	return err
}

// Copy copies within the device.
func (d Device) Copy(to, from backends.Address, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	_, err := d.memory("copy", d.b.lib.device.copy, memoryArgs{device: to, from: pointer(from), bytes: bytes}, nil)
	return err
}

// Limit bounds what the context may take of the device's memory; 0: no limit.
func (d Device) Limit(bytes int64) error {
	_, err := d.memory("limit", d.b.lib.device.limit, memoryArgs{bytes: bytes}, nil)
	return err
}

// Pin returns memory of the host's that copies to and from the device reach at the speed of the bus. Go does not manage it.
func (d Device) Pin(bytes int) ([]byte, error) {
	if d.b.lib.device.pin == 0 || d.b.lib.device.unpin == 0 {
		return nil, &backends.Error{Op: "pin", Backend: d.b.name, Err: backends.ErrUnsupported}
	}
	m, err := d.operate("pin", d.b.lib.device.pin, memoryArgs{bytes: int64(bytes)}, nil)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(m.to), bytes), nil
}

// Unpin gives back what Pin returned, which must not be used any more.
func (d Device) Unpin(memory []byte) error {
	if d.b.lib.device.unpin == 0 {
		return &backends.Error{Op: "unpin", Backend: d.b.name, Err: backends.ErrUnsupported}
	}
	_, err := d.operate("unpin", d.b.lib.device.unpin, memoryArgs{to: unsafe.Pointer(unsafe.SliceData(memory))}, nil)
	return err
}

// Attach opens a library of others, by its path or a name that the system's loader knows, for the kernels of one name that need it, and returns what that says of its version. It comes before any
// call. Errors wrap backends.ErrLibrary.
func (b *Backend) Attach(kernel, path string) (version string, err error) {
	if b.lib.device == nil || b.lib.device.attach == 0 {
		return "", fmt.Errorf("%w: the backend attaches no others", backends.ErrLibrary)
	}
	x := newBlock(func(a *libraryArgs) *call { return &a.call })
	x.args.kernel, x.args.path = unsafe.StringData(kernel+"\x00"), unsafe.StringData(path+"\x00")
	var rc int32
	failed := Undisturbed("when it was attached", func() { rc = x.enter(b, b.lib.device.attach) })
	switch {
	case failed != nil:
		return "", failed
	case rc != statusOK:
		return "", fmt.Errorf("%w: code %d: %s", backends.ErrLibrary, rc, text(&x.message[0], messageSize))
	}
	return text(&x.args.version[0], len(x.args.version)), nil
}

// operand is where the values of an argument are: on the device, or in the slice.
func operand(x []float32, at backends.Address) *float32 {
	if at != 0 {
		return (*float32)(pointer(at))
	}
	return unsafe.SliceData(x)
}

// fetch brings the value that is not finite from the device to its place in x, or in y behind x, for the error that names it.
func (b *Backend) fetch(rc int32, bad int64, x, y []float32, xAt, yAt backends.Address) {
	if n := int64(len(x)); bad >= n {
		x, xAt, bad = y, yAt, bad-n
	}
	if rc == statusNonFinite && xAt != 0 && bad >= 0 && bad < int64(len(x)) {
		_ = Device{b}.Download(backends.Bytes(x[bad:bad+1]), xAt+4*backends.Address(bad)) // without it the error names another value
	}
}

// pointer is an address for a field of an argument block, where a host's array might be as well. A device's addresses are none of Go's heap (the driver reserves them in the
// process, or they are low), so the garbage collector looks past them. Nothing in Go reads through it.
func pointer(at backends.Address) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }
