// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"debug/pe"
	"io"

	"github.com/setun-compute/setun/backends"
)

// peMachines are those of the Go architectures that have native backends.
var peMachines = map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}

// checkPE reads the headers of a DLL and holds every end that they name against the end of the file, and the sections against the image.
func checkPE(r io.ReaderAt, size int64, arch string) error {
	p, err := pe.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		return refuse(ErrDamaged, "not a DLL: %v", err)
	}
	if want, known := peMachines[arch]; !known || p.Machine != want {
		return refuse(backends.ErrLibrary, "built for machine %#x, this program runs on %s", p.Machine, arch)
	}
	if p.Characteristics&pe.IMAGE_FILE_DLL == 0 {
		return refuse(backends.ErrLibrary, "a program, not a DLL")
	}
	header, ok := p.OptionalHeader.(*pe.OptionalHeader64)
	switch {
	case !ok:
		return refuse(ErrDamaged, "no header of 64 bits")
	case int64(header.SizeOfHeaders) > size:
		return refuse(ErrDamaged, "truncated: the headers end at byte %d, the file at %d", header.SizeOfHeaders, size)
	case len(p.Sections) == 0:
		return refuse(ErrDamaged, "no sections")
	}
	for _, s := range p.Sections {
		if end := int64(s.Offset) + int64(s.Size); end > size {
			return refuse(ErrDamaged, "truncated: section %s ends at byte %d, the file at %d", s.Name, end, size)
		}
		if end := uint64(s.VirtualAddress) + uint64(s.VirtualSize); end > uint64(header.SizeOfImage) {
			return refuse(ErrDamaged, "section %s ends at %#x, the image at %#x", s.Name, end, header.SizeOfImage)
		}
	}
	for i, d := range header.DataDirectory {
		end, limit := uint64(d.VirtualAddress)+uint64(d.Size), uint64(header.SizeOfImage)
		if i == pe.IMAGE_DIRECTORY_ENTRY_SECURITY { // the only one that is a place in the file
			limit = uint64(size)
		}
		if end > limit {
			return refuse(ErrDamaged, "directory %d ends at %#x, beyond %#x", i, end, limit)
		}
	}
	return nil
}
