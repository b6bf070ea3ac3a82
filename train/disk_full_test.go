// SPDX-License-Identifier: Apache-2.0

//go:build unix

package train

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullVariable makes this program a process that may not write large files: a limit is of the whole process, and this one writes others as well.
const fullVariable = "SETUN_TEST_FULL_DISK"

func init() {
	folder := os.Getenv(fullVariable)
	if folder == "" {
		return
	}
	path := filepath.Join(folder, checkpointFile)
	err := stepped(1).save(path)
	saves := 0
	for limit, done := uint64(0), false; !done && err == nil; limit += 500 {
		if done, err = saveWithin(limit, path, folder); err != nil {
			err = fmt.Errorf("a limit of %d bytes: %w", limit, err)
		}
		saves++
	}
	if err != nil || saves < 20 {
		fmt.Printf("%d saves: %v\n", saves, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestF22CheckpointOnAFullDisk lets the system itself refuse what is beyond a size, at many sizes below that of the checkpoint.
func TestF22CheckpointOnAFullDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), fullVariable+"="+t.TempDir())
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// saveWithin saves step 2 over step 1 with a limit of the size of files, and says whether that worked.
func saveWithin(limit uint64, path, folder string) (done bool, err error) {
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return false, err
	}
	low := old
	low.Cur = limit
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &low); err != nil {
		return false, err
	}
	failure := stepped(2).save(path)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return false, err
	}
	step, err := stepOf(path)
	files, e := os.ReadDir(folder)
	switch {
	case err != nil || e != nil:
		return false, errors.Join(failure, err, e)
	case len(files) != 1:
		return false, fmt.Errorf("left behind: %v", files)
	case failure == nil && step != 2 || failure != nil && step != 1:
		return false, fmt.Errorf("step %d, and %w", step, failure)
	case failure != nil && (!errors.Is(failure, unix.EFBIG) || !strings.Contains(failure.Error(), path)):
		return false, failure
	}
	return failure == nil, nil
}
