// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"debug/elf"
	"fmt"
	"os"
	"runtime"

	"github.com/setun-compute/setun/backends"
)

// maxLibrary bounds a library's file size.
const maxLibrary = 256 << 20

// machines names the ELF machine of each Go architecture that has native backends.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

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
	if runtime.GOOS != "linux" && runtime.GOOS != "freebsd" {
		return nil // other formats are checked by their own loader
	}
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
		if end := p.Off + p.Filesz; end < p.Off || end > uint64(info.Size()) {
			return refuse("truncated: a segment ends at byte %d, the file at %d", end, info.Size())
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backends.ErrLibrary, fmt.Sprintf(format, args...))
}
