// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// image is a small shared library, written by hand: header, segments, dynamic section, strings, table of sections. The fields are those that a test may want to spoil.
type image struct {
	header   elf.Header64
	segments []elf.Prog64
	dynamic  []elf.Dyn64
	text     []byte
	sections int
}

// newImage returns a sound one for a machine.
func newImage(machine elf.Machine) *image {
	i := &image{text: []byte("\x00lib.so\x00"), sections: 3}
	copy(i.header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	i.header.Type, i.header.Machine, i.header.Version = uint16(elf.ET_DYN), uint16(machine), uint32(elf.EV_CURRENT)
	i.header.Ehsize, i.header.Phentsize, i.header.Shentsize, i.header.Phnum, i.header.Phoff = headerSize, segmentSize, sectionSize, 2, headerSize
	const at = headerSize + 2*segmentSize
	const text = at + 5*entrySize
	end := uint64(text + len(i.text))
	i.segments = []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Filesz: end, Memsz: end + 4096, Align: 4096},
		{Type: uint32(elf.PT_DYNAMIC), Off: at, Vaddr: at, Filesz: 5 * entrySize, Memsz: 5 * entrySize, Align: 8},
	}
	i.dynamic = []elf.Dyn64{{Tag: int64(elf.DT_STRTAB), Val: text}, {Tag: int64(elf.DT_STRSZ), Val: uint64(len(i.text))}, {Tag: int64(elf.DT_SYMTAB), Val: text}, {Tag: int64(elf.DT_SONAME), Val: 1}, {}}
	i.header.Shoff, i.header.Shnum = end, uint16(i.sections)
	return i
}

func (i *image) bytes() []byte {
	var b bytes.Buffer
	for _, part := range []any{i.header, i.segments, i.dynamic, i.text, make([]byte, i.sections*sectionSize)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// spoiled returns an image that a function changed.
func spoiled(f func(*image)) []byte {
	i := newImage(elf.EM_X86_64)
	f(i)
	return i.bytes()
}

func judge(data []byte) error {
	return checkELF(bytes.NewReader(data), uint64(len(data)), "amd64", true)
}

func TestSoundImages(t *testing.T) {
	for arch, machine := range elfMachines {
		data := newImage(machine).bytes()
		if err := checkELF(bytes.NewReader(data), uint64(len(data)), arch, true); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
	}
	stripped := spoiled(func(i *image) { i.header.Shoff, i.header.Shnum, i.sections = 0, 0, 0 })
	if err := judge(stripped); err != nil {
		t.Errorf("without a table of sections: %v", err)
	}
	if _, err := elf.NewFile(bytes.NewReader(stripped)); err != nil {
		t.Errorf("the image is not one: %v", err)
	}
}
