// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
)

// dll is a small DLL, written by hand: headers, one section.
func dll(spoil func(*pe.FileHeader, *pe.OptionalHeader64, *pe.SectionHeader32)) []byte {
	const start, raw = 64, 512
	file := pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: 240, Characteristics: pe.IMAGE_FILE_DLL | pe.IMAGE_FILE_EXECUTABLE_IMAGE}
	optional := pe.OptionalHeader64{Magic: 0x20b, SizeOfHeaders: raw, SizeOfImage: 0x2000, SectionAlignment: 0x1000, FileAlignment: raw, NumberOfRvaAndSizes: 16}
	section := pe.SectionHeader32{VirtualSize: 100, VirtualAddress: 0x1000, SizeOfRawData: raw, PointerToRawData: raw}
	copy(section.Name[:], ".text")
	spoil(&file, &optional, &section)
	var b bytes.Buffer
	head := make([]byte, start)
	copy(head, "MZ")
	head[0x3c] = start
	b.Write(head)
	b.WriteString("PE\x00\x00")
	for _, part := range []any{file, optional, section} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	b.Write(make([]byte, 2*raw-b.Len()))
	return b.Bytes()
}

func judgePE(data []byte) error { return checkPE(bytes.NewReader(data), int64(len(data)), "amd64") }

func TestDLLs(t *testing.T) {
	type (
		file     = pe.FileHeader
		optional = pe.OptionalHeader64
		section  = pe.SectionHeader32
	)
	sound := dll(func(*file, *optional, *section) {})
	if err := judgePE(sound); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*file, *optional, *section)
		want  error
		word  string
	}{
		"machine":          {func(f *file, _ *optional, _ *section) { f.Machine = pe.IMAGE_FILE_MACHINE_ARM64 }, backends.ErrLibrary, "built for machine 0xaa64"},
		"program":          {func(f *file, _ *optional, _ *section) { f.Characteristics = pe.IMAGE_FILE_EXECUTABLE_IMAGE }, backends.ErrLibrary, "not a DLL"},
		"no sections":      {func(f *file, _ *optional, _ *section) { f.NumberOfSections = 0 }, ErrDamaged, "no sections"},
		"headers beyond":   {func(_ *file, o *optional, _ *section) { o.SizeOfHeaders = 1 << 20 }, ErrDamaged, "headers end"},
		"section beyond":   {func(_ *file, _ *optional, s *section) { s.SizeOfRawData++ }, ErrDamaged, ".text ends"},
		"section wraps":    {func(_ *file, _ *optional, s *section) { s.PointerToRawData = ^uint32(0) }, ErrDamaged, ""},
		"beyond the image": {func(_ *file, o *optional, _ *section) { o.SizeOfImage = 0x1000 }, ErrDamaged, "the image"},
		"directory": {func(_ *file, o *optional, _ *section) {
			o.DataDirectory[1] = pe.DataDirectory{VirtualAddress: ^uint32(0), Size: 2}
		}, ErrDamaged, "directory 1"},
		"signature": {func(_ *file, o *optional, _ *section) {
			o.DataDirectory[4] = pe.DataDirectory{VirtualAddress: 1020, Size: 5}
		}, ErrDamaged, "directory 4"},
	} {
		if err := judgePE(dll(c.spoil)); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v, want %q", name, err, c.word)
		}
	}
	cutPE(t, sound)
}

// cutPE cuts a DLL at every byte of its headers and every 64 behind.
func cutPE(t *testing.T, data []byte) {
	t.Helper()
	p, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	end := 0
	for _, s := range p.Sections {
		end = max(end, int(s.Offset+s.Size))
	}
	for n := range end {
		if n > 4096 && n%64 != 0 {
			continue
		}
		if err := judgePE(data[:n]); !errors.Is(err, backends.ErrLibrary) {
			t.Errorf("cut at %d of %d: %v", n, len(data), err)
		}
	}
}

// FuzzPE: any bytes get a verdict.
func FuzzPE(f *testing.F) {
	f.Add(dll(func(*pe.FileHeader, *pe.OptionalHeader64, *pe.SectionHeader32) {}))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := judgePE(data); err != nil && !errors.Is(err, backends.ErrLibrary) {
			t.Error(err)
		}
	})
}
