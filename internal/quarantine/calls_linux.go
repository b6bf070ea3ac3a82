// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// shm is memory with names. A disk would not do: when it is full, or fails, a store into the mapped file ends the process.
const shm = "/dev/shm"

// memoryFolder returns the folder for files of calls, if it is what it should be: others must not be able to rename what is ours.
func memoryFolder() (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil {
		return "", fmt.Errorf("%s: %w", shm, err)
	}
	info, err := os.Stat(shm)
	if err != nil {
		return "", err
	}
	if fs.Type != unix.TMPFS_MAGIC || info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
		return "", fmt.Errorf("%s is no memory, or others may change what is in it", shm)
	}
	return shm, nil
}

// errNoMemory is for systems that have none.
var errNoMemory = errors.New("no memory with names")

func mapShared(f *os.File, from int64, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), from, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmap(memory []byte) { _ = unix.Munmap(memory) }

// openOurs opens a file that was made by us and that nobody else can write; nil when it was not. Everybody may put files into this folder, and links and pipes.
func openOurs(name string) *os.File {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0 {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Geteuid() {
			return f
		}
	}
	f.Close()
	return nil
}
