// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrLocked is wrapped by the error of Lock when somebody else keeps the lock.
var ErrLocked = errors.New("locked by another process")

const lockPause = 5 * time.Millisecond

// Lock waits, at most so long, until no other process works on the file at path, and returns a function that lets others go on. The lock is a file of its own beside it, "path.lock", which stays: a lock
// on the file itself would be lost when it is replaced. The system gives up the lock of a process that dies. The folder is made when it is missing.
func Lock(path string, wait time.Duration) (unlock func(), err error) {
	return Files{}.Lock(path, wait)
}

// Lock is the function of that name.
func (f Files) Lock(path string, wait time.Duration) (unlock func(), err error) {
	if err := f.makeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for end := time.Now().Add(wait); ; time.Sleep(lockPause) { // the end is of the monotonic clock, which does not jump
		unlock, busy, err := f.system().Lock(path + ".lock")
		if err == nil {
			return unlock, nil
		}
		if !busy || time.Now().After(end) {
			if busy {
				err = ErrLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// TryLock locks an open file itself, as long as it is open, and never waits. busy: somebody else has the lock. The system gives up that of a process that dies. It is for files that are not replaced.
func TryLock(f *os.File) (busy bool, err error) { return tryLock(f) }
