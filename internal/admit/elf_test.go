// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

func TestF2NotELF(t *testing.T) {
	for name, data := range map[string]string{"text": "hello, this is no library at all, but it is longer than the header of one would be", "script": "#!/bin/sh\n", "one byte": "\x7f", "DLL": "MZ\x90\x00\x03", "magic with a hole": "\x7fELG" + strings.Repeat("\x00", 100)} {
		if err := judge([]byte(data)); !errors.Is(err, ErrDamaged) || !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "not a shared library") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestF3WrongMachine(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*image)
		word  string
	}{
		"machine":    {func(i *image) { i.header.Machine = uint16(elf.EM_S390) }, "EM_S390"},
		"arm":        {func(i *image) { i.header.Machine = uint16(elf.EM_AARCH64) }, "EM_AARCH64"},
		"class":      {func(i *image) { i.header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS32) }, "ELFCLASS32"},
		"byte order": {func(i *image) { i.header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB) }, "ELFDATA2MSB"},
		"program":    {func(i *image) { i.header.Type = uint16(elf.ET_EXEC) }, "ET_EXEC"},
		"object":     {func(i *image) { i.header.Type = uint16(elf.ET_REL) }, "ET_REL"},
	} {
		if err := judge(spoiled(c.spoil)); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v, want %q", name, err, c.word)
		}
	}
	data := newImage(elf.EM_X86_64).bytes()
	if err := checkELF(bytes.NewReader(data), uint64(len(data)), "riscv64", true); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "runs on riscv64") {
		t.Errorf("a platform without native backends: %v", err)
	}
}

func TestContradictionsAreDamage(t *testing.T) {
	const huge = ^uint64(0)
	for name, c := range map[string]struct {
		spoil func(*image)
		word  string
	}{
		"header's size":            {func(i *image) { i.header.Ehsize = 65 }, "header"},
		"version":                  {func(i *image) { i.header.Ident[elf.EI_VERSION] = 2 }, "header"},
		"no segments":              {func(i *image) { i.header.Phnum = 0 }, "0 segments"},
		"many segments":            {func(i *image) { i.header.Phnum = maxSegments + 1 }, "segments"},
		"segment's size":           {func(i *image) { i.header.Phentsize = 32 }, "segments of 32 bytes"},
		"segments beyond":          {func(i *image) { i.header.Phoff = 1 << 40 }, "table of segments"},
		"segments that wrap":       {func(i *image) { i.header.Phoff = huge - 8 }, "table of segments"},
		"sections beyond":          {func(i *image) { i.header.Shoff++ }, "table of sections"},
		"sections that wrap":       {func(i *image) { i.header.Shoff = huge }, "table of sections"},
		"extended number":          {func(i *image) { i.header.Shnum, i.sections = 0, 0 }, "table of sections"},
		"section's size":           {func(i *image) { i.header.Shentsize = 40 }, "sections of 40 bytes"},
		"segment beyond":           {func(i *image) { i.segments[0].Filesz = 1 << 20; i.segments[0].Memsz = 1 << 20 }, "a segment ends at byte 1048576"},
		"segment that wraps":       {func(i *image) { i.segments[1].Off = huge - 3 }, "a segment ends"},
		"more file than memory":    {func(i *image) { i.segments[0].Memsz = i.segments[0].Filesz - 1 }, "for"},
		"terabytes of memory":      {func(i *image) { i.segments[0].Memsz = 1 << 40 }, "for 1099511627776"},
		"address that wraps":       {func(i *image) { i.segments[0].Vaddr = huge &^ 4095 }, "at 0xffff"},
		"alignment of 3":           {func(i *image) { i.segments[0].Align = 3 }, "aligned to 3"},
		"unlike offset":            {func(i *image) { i.segments[0].Vaddr = 16 }, "aligned"},
		"overlap":                  {func(i *image) { i.segments[1] = i.segments[0] }, "overlap"},
		"nothing to load":          {func(i *image) { i.segments[0].Type = uint32(elf.PT_NOTE) }, "nothing"},
		"no dynamic section":       {func(i *image) { i.segments[1].Type = uint32(elf.PT_NOTE) }, "no dynamic section"},
		"dynamic elsewhere":        {func(i *image) { i.segments[1].Vaddr = 1 << 20 }, "dynamic section"},
		"dynamic and its offset":   {func(i *image) { i.segments[1].Vaddr += 16 }, "dynamic section"},
		"dynamic of half an entry": {func(i *image) { i.segments[1].Filesz, i.segments[1].Memsz = 72, 72 }, "dynamic section"},
		"dynamic without end":      {func(i *image) { i.dynamic[4].Tag = int64(elf.DT_DEBUG) }, "no end"},
		"no strings":               {func(i *image) { i.dynamic[0].Tag = int64(elf.DT_DEBUG) }, "no DT_STRTAB"},
		"no symbols":               {func(i *image) { i.dynamic[2].Tag = int64(elf.DT_DEBUG) }, "no DT_SYMTAB"},
		"strings beyond":           {func(i *image) { i.dynamic[1].Val += 1 }, "DT_STRTAB"},
		"strings that wrap":        {func(i *image) { i.dynamic[1].Val = huge }, "DT_STRTAB"},
		"no bytes of strings":      {func(i *image) { i.dynamic[1].Val = 0 }, "no strings"},
		"string without end":       {func(i *image) { i.text[len(i.text)-1] = 'x' }, "last string"},
		"symbols elsewhere":        {func(i *image) { i.dynamic[2].Val = 1 << 20 }, "DT_SYMTAB"},
		"name beyond":              {func(i *image) { i.dynamic[3].Val = 100 }, "name"},
		"relocations beyond":       {func(i *image) { i.dynamic[3] = elf.Dyn64{Tag: int64(elf.DT_RELA), Val: 1 << 30} }, "DT_RELA"},
		"constructors elsewhere":   {func(i *image) { i.dynamic[3] = elf.Dyn64{Tag: int64(elf.DT_INIT_ARRAY), Val: huge} }, "DT_INIT_ARRAY"},
	} {
		if err := judge(spoiled(c.spoil)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v, want %q", name, err, c.word)
		}
	}
}

// Where a library of ours looks for others is the system's to say: a folder that it names itself may be anybody's.
func TestLibrariesByPath(t *testing.T) {
	for name, spoil := range map[string]func(*image){
		"RPATH":      func(i *image) { i.dynamic[3].Tag = int64(elf.DT_RPATH) },
		"RUNPATH":    func(i *image) { i.dynamic[3].Tag = int64(elf.DT_RUNPATH) },
		"\"a/b.so\"": func(i *image) { i.dynamic[3].Tag = int64(elf.DT_NEEDED); copy(i.text[1:], "a/b.so") },
	} {
		data := spoiled(spoil)
		if err := judge(data); !errors.Is(err, ErrUnsafe) || !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := checkELF(bytes.NewReader(data), uint64(len(data)), "amd64", false); err != nil {
			t.Errorf("%s in a library of others: %v", name, err)
		}
	}
}

// TestF4TruncatedHeaders cuts an image at every byte, and a library that was built here at every byte of its headers and every 64 behind.
func TestF4TruncatedHeaders(t *testing.T) {
	whole := newImage(elf.EM_X86_64).bytes()
	for n := range whole {
		if err := judge(whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
	path := "../../native/build/release/libsetun_simd_c.so"
	library, err := os.ReadFile(path)
	if err != nil || len(library) < headerSize || library[18] != byte(elf.EM_X86_64) {
		t.Logf("the image alone: there is no library of amd64 in this checkout (make native): %v", err)
		return
	}
	if err := judge(library); err != nil {
		t.Fatal(err)
	}
	headers := headerSize + segmentSize*int(library[56])
	for n := 0; n < len(library); n++ {
		if n > headers && n%64 != 0 {
			continue
		}
		if err := judge(library[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s cut at %d of %d: %v", path, n, len(library), err)
		}
	}
}

// TestF5BitFlipsOfHeaders: whatever a bit does to an image, the answer is a verdict, and a typed one.
func TestF5BitFlipsOfHeaders(t *testing.T) {
	whole := newImage(elf.EM_X86_64).bytes()
	refused := 0
	for bit := range 8 * len(whole) {
		data := bytes.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		if err := judge(data); err != nil {
			refused++
			if !errors.Is(err, backends.ErrLibrary) {
				t.Errorf("bit %d: %v", bit, err)
			}
		}
	}
	if t.Logf("%d of %d bits were noticed without a digest", refused, 8*len(whole)); refused == 0 {
		t.Error("none was noticed")
	}
}

// FuzzELF: any bytes get a verdict, and what is let through keeps its segments within the file.
func FuzzELF(f *testing.F) {
	f.Add(newImage(elf.EM_X86_64).bytes())
	f.Add(spoiled(func(i *image) { i.header.Shoff, i.header.Shnum, i.sections = 0, 0, 0 }))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := judge(data)
		if err != nil {
			if !errors.Is(err, backends.ErrLibrary) {
				t.Errorf("%v", err)
			}
			return
		}
		e, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return // debug/elf wants sections to be right too
		}
		for _, p := range e.Progs {
			if p.Off+p.Filesz < p.Off || p.Off+p.Filesz > uint64(len(data)) {
				t.Errorf("a segment ends at %d of %d", p.Off+p.Filesz, len(data))
			}
		}
	})
}
