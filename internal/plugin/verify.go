// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"debug/elf"
	"debug/pe"
	"fmt"
	"os"
	"runtime"

	"github.com/setun-compute/setun/backends"
)

// maxLibrary bounds a library's file size.
const maxLibrary = 256 << 20

// machines names the ELF machine of each Go architecture that has native backends.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

var windowsMachines = map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}

// verify refuses files that would kill the process inside dlopen, a truncated library above all, and says in words what is
// wrong with the others. It reads headers only.
func verify(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return refuse("%v", err)
	case !info.Mode().IsRegular():
		return refuse("not a regular file")
	case info.Size() > maxLibrary:
		return refuse("%d bytes, more than the limit of %d", info.Size(), maxLibrary)
	}
	switch runtime.GOOS {
	case "linux", "freebsd":
		return verifyELF(f, info.Size())
	case "windows":
		return verifyPE(f, info.Size())
	}
	return nil // other formats are checked by their own loader
}

func verifyELF(f *os.File, size int64) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return refuse("not a shared library: %v", err)
	}
	if want := machines[runtime.GOARCH]; e.Machine != want || e.Class != elf.ELFCLASS64 {
		return refuse("built for %v, this program runs on %v", e.Machine, want)
	}
	if e.Type != elf.ET_DYN {
		return refuse("not a shared library: its type is %v", e.Type)
	}
	for _, p := range e.Progs {
		if end := p.Off + p.Filesz; end < p.Off || end > uint64(size) {
			return refuse("truncated: a segment ends at byte %d, the file at %d", end, size)
		}
	}
	return nil
}

func verifyPE(f *os.File, size int64) error {
	p, err := pe.NewFile(f)
	if err != nil {
		return refuse("not a DLL: %v", err)
	}
	if want := windowsMachines[runtime.GOARCH]; p.Machine != want {
		return refuse("built for machine %#x, this program runs on %#x", p.Machine, want)
	}
	if p.Characteristics&pe.IMAGE_FILE_DLL == 0 {
		return refuse("not a DLL: a program")
	}
	for _, s := range p.Sections {
		if end := int64(s.Offset) + int64(s.Size); end > size {
			return refuse("truncated: section %s ends at byte %d, the file at %d", s.Name, end, size)
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backends.ErrLibrary, fmt.Sprintf(format, args...))
}
