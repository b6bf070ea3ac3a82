// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

// strip is memory that ends at a page that cannot be touched.
type strip []byte

func newStrip(t testing.TB, n int) strip {
	t.Helper()
	page := syscall.Getpagesize()
	n = (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, n+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err == nil {
		err = syscall.Mprotect(m[n:], syscall.PROT_NONE)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	return m[:n]
}

// last returns the address of the last n bytes, or of some more so that a pointer may lie there.
func (s strip) last(n int) unsafe.Pointer {
	return unsafe.Pointer(&s[(len(s)-n)&^7])
}

// end returns the address that must not be touched.
func (s strip) end() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), len(s)) }

// lay writes as much of a struct as is to be there to the end of a strip.
func lay[E any](s strip, v *E, size uint32) *E {
	n := max(8, int(min(uint64(size), uint64(len(s)))))
	p := s.last(n)
	copy(unsafe.Slice((*byte)(p), n), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
	return (*E)(p)
}

// forger draws tables from bytes. What a table says is there is there, and nothing behind it.
type forger struct {
	bytes                               []byte
	table, kernels, device, texts, open strip // open has texts without an end
}

func newForger(t testing.TB) *forger {
	return &forger{table: newStrip(t, 1), kernels: newStrip(t, maxKernels*maxKernelSize), device: newStrip(t, 1), texts: newStrip(t, 1), open: newStrip(t, 1)}
}

func (f *forger) draw() (b byte) {
	if len(f.bytes) > 0 {
		b, f.bytes = f.bytes[0], f.bytes[1:]
	}
	return b
}

// number draws the right one for the most part, else one near it, or any.
func (f *forger) number(right uintptr) uint32 {
	switch b := f.draw(); {
	case b >= 0xf0:
		return binary.LittleEndian.Uint32([]byte{f.draw(), f.draw(), f.draw(), f.draw()})
	case b >= 0xe0:
		return uint32(right) + uint32(b&15) - 8
	}
	return uint32(right)
}

// entry draws the address of a function, which nobody calls.
func (f *forger) entry() uintptr {
	if b := f.draw(); b < 0xfc {
		return uintptr(b) + 1
	}
	return 0
}

// string draws where a text begins; null, or one that does not end, now and then.
func (f *forger) string() *byte {
	switch b := f.draw(); {
	case b == 0xff:
		return nil
	case b >= 0xfc:
		return (*byte)(f.open.last(maxText))
	default:
		return (*byte)(unsafe.Add(f.texts.end(), -1-int(b%64))) // the last byte is 0
	}
}

// words puts text where string finds it.
func (f *forger) words(text []byte) {
	clear(f.texts)
	copy(f.texts[max(0, len(f.texts)-1-len(text)):len(f.texts)-1], text)
	for i := range f.open {
		if f.open[i] = 'x'; len(text) > 0 {
			f.open[i] = text[i%len(text)]
		}
	}
}

// forge draws a table, and says what is to come of it: a Library, or why there must be none.
func (f *forger) forge(data, text []byte) (at *table, l *Library, wrong string) {
	f.bytes = data
	f.words(text)
	refuse := func(is bool, why string) {
		if is && wrong == "" {
			wrong = why
		}
	}
	t := table{magic: f.number(magic), size: f.number(unsafe.Sizeof(table{})), abi: f.number(version), kernelSize: f.number(unsafe.Sizeof(kernelEntry{})), kernelCount: f.number(uintptr(f.draw() % 32)),
		name: f.string(), version: f.string(), build: f.string(), open: f.entry(), close: f.entry(), kernels: f.kernels.end()}
	refuse(t.magic != magic, "magic")
	refuse(uintptr(t.size) < minTable, "table size")
	refuse(t.abi != version, "version")
	refuse(uintptr(t.kernelSize) < minKernel || t.kernelSize > maxKernelSize || uintptr(t.kernelSize)%unsafe.Sizeof(t.open) != 0, "kernel size")
	null := f.draw() == 0xff
	refuse(t.kernelCount > 0 && null || t.kernelCount > maxKernels, "kernel count")
	refuse((t.open == 0) != (t.close == 0), "open and close")
	l = &Library{name: read(t.name), version: read(t.version), build: read(t.build), open: t.open, close: t.close}
	refuse(!acceptable(l.name), "its name")
	if null {
		t.kernels = nil
	} else if wrong == "" { // else there are none: they must not be looked at
		var why string
		t.kernels, why = f.list(&t, l)
		refuse(why != "", why)
	}
	if f.draw()%2 == 0 {
		d := deviceTable{size: f.number(unsafe.Sizeof(deviceTable{}))}
		for _, p := range []*uintptr{&d.count, &d.open, &d.info, &d.alloc, &d.free, &d.upload, &d.download, &d.copy, &d.limit} {
			*p = f.entry()
			refuse(uintptr(t.size) >= unsafe.Sizeof(t) && (d.size < minDevice || *p == 0 || t.close == 0), "device's table")
		}
		d.pin, d.unpin = f.entry(), f.entry()
		t.device = lay(f.device, &d, d.size)
		if uintptr(t.size) >= unsafe.Sizeof(t) {
			l.device = new(deviceTable)
			n := min(uintptr(d.size), unsafe.Sizeof(d))
			copy(unsafe.Slice((*byte)(unsafe.Pointer(l.device)), n), unsafe.Slice((*byte)(unsafe.Pointer(&d)), n))
		}
	} else if f.draw() == 0xff && uintptr(t.size) < unsafe.Sizeof(t) { // what lies behind a table is none of it
		t.device = (*deviceTable)(f.device.end())
	}
	return lay(f.table, &t, t.size), l, wrong
}

// list draws the kernels of a table.
func (f *forger) list(t *table, l *Library) (at unsafe.Pointer, wrong string) {
	size := int(t.kernelSize)
	at = f.kernels.end()
	if t.kernelCount > 0 {
		at = f.kernels.last(int(t.kernelCount) * size)
	}
	seen := map[string]bool{}
	for i := range int(t.kernelCount) {
		k := kernelEntry{name: f.string(), op: uint32(f.draw() % 20), threads: uint32(f.draw()), run: f.entry(), flags: uint32(f.draw())}
		if i >= 16 { // not all of many need be drawn
			k.name, k.op, k.run = (*byte)(f.texts.last(1)), 99, 1
		}
		copy(unsafe.Slice((*byte)(unsafe.Add(at, i*size)), size), unsafe.Slice((*byte)(unsafe.Pointer(&k)), unsafe.Sizeof(k)))
		op, name := backends.Op(k.op), read(k.name)
		key := op.String() + "/" + name
		switch known := op.String() != "unknown op"; {
		case wrong != "":
		case k.run == 0 || k.name == nil:
			wrong = "no name or no entry"
		case known && !acceptable(name):
			wrong = "the name of kernel"
		case known && seen[key]:
			wrong = "two kernels"
		case known:
			seen[key] = true
			l.kernels = append(l.kernels, backends.Kernel{Op: op, Name: name, Threads: int(k.threads), Index: len(l.entries), Fast: k.flags&1 != 0 && size >= int(unsafe.Sizeof(k))})
			l.entries = append(l.entries, k.run)
			l.iterates = append(l.iterates, op == backends.OpKMeans && k.flags&2 != 0 && size >= int(unsafe.Sizeof(k)))
		}
	}
	return at, wrong
}

// read is what a text says, in its first 512 bytes.
func read(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for n < 512 && *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}

// acceptable is the rule for names in docs/adding-a-backend.md.
func acceptable(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < '!' || c > '~' || c == '/' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 64
}

// FuzzTable reads tables that say anything, in memory that ends where they say. One that is in order is read as it is, and any other is refused with the reason.
func FuzzTable(f *testing.F) {
	words := []byte("tiny\x00avx2\x00avx512x2\x00scalar\x00sse42")
	whole := []byte{0, 0, 0, 0, 8, 0, 31, 5, 5, 1, 1, 0} // numbers as they are right, 8 kernels
	for i := range byte(8) {
		whole = append(whole, []byte{21, 12, 26, 5}[i%4], 1+i, 1, 1, i%2)
	}
	whole = append(whole, bytes.Repeat([]byte{0}, 20)...) // a device
	m := newForger(f)
	if _, l, wrong := m.forge(whole, words); wrong != "" || len(l.kernels) != 8 || l.device == nil {
		f.Fatalf("a table that is in order was not drawn: %+v, %s", l, wrong)
	}
	f.Add(whole, words)
	f.Add(append([]byte{0, 0xe0}, whole[2:]...), words)                                                      // a shorter table
	f.Add(append([]byte{0, 0, 0, 0xe0}, whole[4:]...), words)                                                // shorter entries of kernels
	f.Add(append([]byte{0, 0, 0, 0xf0, 0, 16, 0, 0, 0, 0xf0, 0, 4, 0, 0}, whole[6:]...), words)              // the most that there may be
	f.Add(append([]byte{0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0xf0, 1, 0, 0, 0x80}, whole[4:]...), words)      // more
	f.Add(append([]byte{0, 0, 0, 0, 8, 0, 0xfc, 0xfc, 0xfc}, whole[9:]...), []byte("a text without an end")) // and no name
	with := func(at int, b byte) []byte {
		c := bytes.Clone(whole)
		c[at] = b
		return c
	}
	f.Add(with(12, 0xfc), bytes.Repeat([]byte("x"), maxText)) // a kernel's name without an end
	f.Add(with(53, 0xe0), words)                              // a shorter table of the device
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, data, text []byte) {
		debug.SetPanicOnFault(true) // a failure names the input then
		at, want, wrong := m.forge(data, text)
		l, err := readTable(at)
		switch {
		case err != nil && (l != nil || !errors.Is(err, backends.ErrLibrary)):
			t.Fatalf("%v, and an error without a sentinel: %v", l, err)
		case (err != nil) != (wrong != ""), err != nil && !strings.Contains(err.Error(), wrong):
			t.Fatalf("%v, wanted %q", err, wrong)
		case err == nil && !reflect.DeepEqual(l, want):
			t.Fatalf("read as\n%+v and not\n%+v", l, want)
		}
	})
}

// FuzzListed reads lists of libraries of others. Each place is a file that the list names, and has a stem that is no path.
func FuzzListed(f *testing.F) {
	for _, list := range []string{"", ":", "/opt/libsetun_mine.so", "/a.so::b.so:/", "/libsetun_.so:/lib.so:/.so", "\x00:\xff/../x"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		places := Listed(list)
		if len(places) > strings.Count(list, string(filepath.ListSeparator))+1 {
			t.Fatalf("%d places", len(places))
		}
		for _, p := range places {
			if !p.File || p.Path == "" || !strings.Contains(list, p.Path) || p.Origin != FilesVariable {
				t.Fatalf("%+v", p)
			}
			if stem := Stem(p.Path); strings.Contains(stem, "/") && stem != "/" {
				t.Fatalf("%q of %q", stem, p.Path)
			}
		}
	})
}
