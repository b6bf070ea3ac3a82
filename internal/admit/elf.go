// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/setun-compute/setun/backends"
)

// elfMachines are those of the Go architectures that have native backends, all of 64 bits and little-endian.
var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Sizes of the structures of a 64-bit file, and bounds that no library comes near.
const (
	headerSize  = 64
	segmentSize = 56
	sectionSize = 64
	entrySize   = 16 // of the dynamic section

	maxSegments = 128
	maxImage    = 4 << 30
	maxDynamic  = 4096 // entries
)

// segment is a part of the file and where the loader puts it.
type segment struct {
	kind                                 elf.ProgType
	offset, address, file, memory, align uint64
}

// checkELF reads what the loader reads before it runs anything, and holds every end against the end of the file or of the segment: a loader trusts them all and dies of a page that is not there.
// Relocations are not followed; only the digest tells about those. One of our own must leave it to the system where other libraries are.
func checkELF(r io.ReaderAt, size uint64, arch string, own bool) error {
	var head [headerSize]byte
	n, _ := r.ReadAt(head[:], 0)
	if n < len(elf.ELFMAG) || string(head[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return refuse(ErrDamaged, "not a shared library")
	}
	if n < headerSize || size < headerSize {
		return refuse(ErrDamaged, "truncated: it ends within the header")
	}
	order := binary.LittleEndian
	want, known := elfMachines[arch]
	class, data, machine := elf.Class(head[elf.EI_CLASS]), elf.Data(head[elf.EI_DATA]), elf.Machine(order.Uint16(head[18:]))
	if !known || class != elf.ELFCLASS64 || data != elf.ELFDATA2LSB || machine != want {
		return refuse(backends.ErrLibrary, "built for %v, %v, %v; this program runs on %s", machine, class, data, arch)
	}
	if kind := elf.Type(order.Uint16(head[16:])); kind != elf.ET_DYN {
		return refuse(backends.ErrLibrary, "not a shared library: its type is %v", kind)
	}
	if elf.Version(head[elf.EI_VERSION]) != elf.EV_CURRENT || order.Uint16(head[52:]) != headerSize {
		return refuse(ErrDamaged, "a header of an unknown version or size")
	}
	if err := checkSections(order.Uint64(head[40:]), order.Uint16(head[58:]), order.Uint16(head[60:]), size); err != nil {
		return err
	}
	segments, err := readSegments(r, order.Uint64(head[32:]), order.Uint16(head[54:]), order.Uint16(head[56:]), size)
	if err != nil {
		return err
	}
	return checkDynamic(r, segments, own)
}

// checkSections: the loader has no use for the table, but it lies at the end, where a copy that was broken off misses it.
func checkSections(offset uint64, each, count uint16, size uint64) error {
	if offset == 0 && count == 0 {
		return nil // stripped of it
	}
	if each != sectionSize {
		return refuse(ErrDamaged, "sections of %d bytes, not %d", each, sectionSize)
	}
	if end, ok := within(offset, uint64(max(count, 1))*sectionSize, size); !ok {
		return refuse(ErrDamaged, "truncated: the table of sections ends at byte %d, the file at %d", end, size)
	}
	return nil
}

func readSegments(r io.ReaderAt, offset uint64, each, count uint16, size uint64) ([]segment, error) {
	if each != segmentSize || count == 0 || count > maxSegments {
		return nil, refuse(ErrDamaged, "%d segments of %d bytes", count, each)
	}
	if end, ok := within(offset, uint64(count)*segmentSize, size); !ok {
		return nil, refuse(ErrDamaged, "truncated: the table of segments ends at byte %d, the file at %d", end, size)
	}
	table := make([]byte, int(count)*segmentSize)
	if _, err := r.ReadAt(table, int64(offset)); err != nil && err != io.EOF {
		return nil, refuse(backends.ErrLibrary, "read: %v", err)
	}
	var list []segment
	next, first := uint64(0), true // where the next segment to be loaded may begin
	for ; len(table) > 0; table = table[segmentSize:] {
		u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(table[at:]) }
		s := segment{elf.ProgType(binary.LittleEndian.Uint32(table)), u64(8), u64(16), u64(32), u64(40), u64(48)}
		if end, ok := within(s.offset, s.file, size); !ok {
			return nil, refuse(ErrDamaged, "truncated: a segment ends at byte %d, the file at %d", end, size)
		}
		if s.kind == elf.PT_LOAD {
			end, carry := bits.Add64(s.address, s.memory, 0)
			switch {
			case carry != 0 || end > maxImage || s.memory < s.file:
				return nil, refuse(ErrDamaged, "a segment of %d bytes for %d at %#x", s.file, s.memory, s.address)
			case s.align > 1 && (s.align&(s.align-1) != 0 || (s.address-s.offset)&(s.align-1) != 0):
				return nil, refuse(ErrDamaged, "a segment at %#x and byte %d that is not aligned to %d", s.address, s.offset, s.align)
			case s.address < next && !first:
				return nil, refuse(ErrDamaged, "segments that overlap, at %#x", s.address)
			}
			next, first = end, false
		}
		list = append(list, s)
	}
	if first {
		return nil, refuse(ErrDamaged, "nothing in it is to be loaded")
	}
	return list, nil
}

// place finds the part of the file that is loaded at an address; what follows has n bytes in the file.
func place(segments []segment, address, n uint64) (offset uint64, ok bool) {
	for _, s := range segments {
		if s.kind == elf.PT_LOAD && address >= s.address && address-s.address <= s.file && n <= s.file-(address-s.address) {
			return s.offset + (address - s.address), true
		}
	}
	return 0, false
}

// loaded says whether something is loaded at an address, from the file or as zeros.
func loaded(segments []segment, address uint64) bool {
	for _, s := range segments {
		if s.kind == elf.PT_LOAD && address >= s.address && address-s.address < s.memory {
			return true
		}
	}
	return false
}

// sized are the tables of the dynamic section that have a size, and single those whose own content says where they end.
var (
	sized = map[elf.DynTag]elf.DynTag{
		elf.DT_STRTAB: elf.DT_STRSZ, elf.DT_RELA: elf.DT_RELASZ, elf.DT_REL: elf.DT_RELSZ, elf.DT_JMPREL: elf.DT_PLTRELSZ,
		elf.DT_INIT_ARRAY: elf.DT_INIT_ARRAYSZ, elf.DT_FINI_ARRAY: elf.DT_FINI_ARRAYSZ, dtRelr: dtRelrSize,
	}
	single = []elf.DynTag{elf.DT_SYMTAB, elf.DT_HASH, elf.DT_GNU_HASH, elf.DT_VERSYM, elf.DT_VERNEED, elf.DT_VERDEF, elf.DT_INIT, elf.DT_FINI, elf.DT_PLTGOT}
	names  = []elf.DynTag{elf.DT_NEEDED, elf.DT_SONAME, elf.DT_RPATH, elf.DT_RUNPATH}
)

// The tags of relative relocations, which debug/elf does not name.
const (
	dtRelrSize elf.DynTag = 35
	dtRelr     elf.DynTag = 36
)

// checkDynamic reads the dynamic section where the loader does: at its address.
func checkDynamic(r io.ReaderAt, segments []segment, own bool) error {
	for _, s := range segments {
		if s.kind != elf.PT_DYNAMIC {
			continue
		}
		offset, ok := place(segments, s.address, s.file)
		if !ok || offset != s.offset || s.file%entrySize != 0 || s.file > maxDynamic*entrySize || s.memory != s.file {
			return refuse(ErrDamaged, "the dynamic section of %d bytes at %#x is not in a segment", s.file, s.address)
		}
		raw := make([]byte, s.file)
		if _, err := r.ReadAt(raw, int64(offset)); err != nil && err != io.EOF {
			return refuse(backends.ErrLibrary, "read: %v", err)
		}
		return checkEntries(r, segments, raw, own)
	}
	return refuse(ErrDamaged, "no dynamic section")
}

func checkEntries(r io.ReaderAt, segments []segment, raw []byte, own bool) error {
	values := map[elf.DynTag]uint64{}
	var text, needed []uint64 // offsets into the table of strings
	ended := false
	for ; len(raw) > 0 && !ended; raw = raw[entrySize:] {
		tag, value := elf.DynTag(int32(binary.LittleEndian.Uint64(raw))), binary.LittleEndian.Uint64(raw[8:])
		ended = tag == elf.DT_NULL
		values[tag] = value
		for _, n := range names {
			if tag == n {
				text = append(text, value)
			}
		}
		if tag == elf.DT_NEEDED {
			needed = append(needed, value)
		}
	}
	if !ended {
		return refuse(ErrDamaged, "the dynamic section has no end")
	}
	for _, tag := range []elf.DynTag{elf.DT_STRTAB, elf.DT_STRSZ, elf.DT_SYMTAB} {
		if _, there := values[tag]; !there {
			return refuse(ErrDamaged, "the dynamic section has no %v", tag)
		}
	}
	for tag, size := range sized {
		address, there := values[tag]
		if _, ok := place(segments, address, values[size]); there && !ok {
			return refuse(ErrDamaged, "%v, %d bytes at %#x, is not in a segment", tag, values[size], address)
		}
	}
	for _, tag := range single {
		if address, there := values[tag]; there && !loaded(segments, address) {
			return refuse(ErrDamaged, "%v, at %#x, is not in a segment", tag, address)
		}
	}
	length := values[elf.DT_STRSZ]
	offset, _ := place(segments, values[elf.DT_STRTAB], length)
	last := make([]byte, 1)
	if length == 0 || offset+length-1 > 1<<62 {
		return refuse(ErrDamaged, "no strings")
	}
	if _, err := r.ReadAt(last, int64(offset+length-1)); err != nil || !bytes.Equal(last, []byte{0}) {
		return refuse(ErrDamaged, "the last string has no end")
	}
	for _, at := range text {
		if at >= length {
			return refuse(ErrDamaged, "a name at byte %d of %d of the strings", at, length)
		}
	}
	if !own {
		return nil
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		if _, there := values[tag]; there {
			return refuse(ErrUnsafe, "it names folders to look for other libraries in (%v), and nobody knows who can write those; to mend it: link it without -rpath (CMake: SKIP_BUILD_RPATH), or patchelf --remove-rpath", tag)
		}
	}
	for _, at := range needed {
		name := make([]byte, min(length-at, 4096))
		if _, err := r.ReadAt(name, int64(offset+at)); err != nil {
			return refuse(backends.ErrLibrary, "read: %v", err)
		}
		if name, _, _ = bytes.Cut(name, []byte{0}); bytes.ContainsRune(name, '/') {
			return refuse(ErrUnsafe, "it needs %q, a library by its path, which nobody checks; to mend it: link it with -l", name)
		}
	}
	return nil
}

// within says whether a part of the file ends in it, and where it ends: at the greatest number when that overflows.
func within(offset, length, size uint64) (end uint64, ok bool) {
	end, carry := bits.Add64(offset, length, 0)
	if carry != 0 {
		return ^uint64(0), false
	}
	return end, end <= size
}
