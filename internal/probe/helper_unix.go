// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/setun-compute/setun/internal/admit"
)

// vetHelper asks of a helper, and of all folders above it, that nobody but root and ourselves can write them.
func vetHelper(path string, info os.FileInfo) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		st, ok := info.Sys().(*syscall.Stat_t)
		sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0 && at != filepath.Dir(real)
		switch {
		case !ok:
			return fmt.Errorf("whose %s is cannot be found out", at)
		case st.Uid != 0 && int(st.Uid) != os.Geteuid():
			return fmt.Errorf("%w: %s belongs to user %d", admit.ErrUnsafe, at, st.Uid)
		case info.Mode().Perm()&0o022 != 0 && !sticky:
			return fmt.Errorf("%w: %s can be written by others (mode %04o): chmod go-w %s", admit.ErrUnsafe, at, info.Mode().Perm(), at)
		case at == filepath.Dir(at):
			return nil
		}
		if info, err = os.Stat(filepath.Dir(at)); err != nil {
			return err
		}
	}
}

// byDescriptor is a name for an open program, where there is one: what was looked at is what is started.
func byDescriptor(f *os.File) string {
	name := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) // ours: the child's own numbers are others by then
	if _, err := os.Stat(name); err != nil || runtime.GOOS != "linux" {
		return f.Name()
	}
	return name
}
