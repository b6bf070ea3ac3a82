// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestLock counts in a file with many at once; none of the counts is lost.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "count")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				unlock, err := Lock(path, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				old, _ := os.ReadFile(path)
				n, _ := strconv.Atoi(string(old))
				if err := WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	all.Wait()
	if got, _ := os.ReadFile(path); string(got) != "160" {
		t.Errorf("%s, not 160", got)
	}
}

func TestLockIsGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	unlock, err := Lock(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path, 20*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("%v", err)
	}
	unlock()
	if unlock, err = Lock(path, 0); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(filepath.Join(path, "below a file"), 0); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("%v", err)
	}
}
