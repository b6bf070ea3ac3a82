// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/setun-compute/setun/internal/durable"
)

const (
	slotSize = 1024
	maxSlots = 1024 // calls at once that are noted
	noSlot   = -1
	prefix   = "using-"
)

// mark is what a process is using for the first time.
type mark struct {
	Library
	Op      string  `json:"op"`
	Kernel  string  `json:"kernel"`
	Process process `json:"process"`
}

// process tells which process wrote a mark. Whether it lives is not found by its number, which another one may have got, or another container may use as well, but by its lock.
type process struct {
	ID    int    `json:"pid"`
	Start string `json:"start,omitempty"` // when it began, in clock ticks since the machine did
	Boot  string `json:"boot,omitempty"`  // of the machine
}

// session is this process's file of marks: a slot for each first call that runs now. The process holds a lock on it, which the system gives up when the process ends, however it does. Nothing is synced: what
// a process has written stays when it crashes, and when the machine does the marks are no evidence against a library.
type session struct {
	mutex  sync.Mutex
	file   *os.File
	failed bool
	taken  [maxSlots]bool
	blank  []byte
}

func (u *session) begin(s *Store, record []byte) int {
	if s.folder == "" {
		return noSlot
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.file == nil && !u.failed {
		if err := u.open(s); err != nil {
			u.failed = true
			s.note("crashes in use go unnoticed: %v", err)
		}
	}
	if u.file == nil {
		return noSlot
	}
	for i := range u.taken {
		if !u.taken[i] {
			if _, err := u.file.WriteAt(record, int64(i)*slotSize); err != nil {
				return noSlot
			}
			u.taken[i] = true
			return i
		}
	}
	return noSlot
}

func (u *session) end(slot int) {
	if slot == noSlot {
		return
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	_, _ = u.file.WriteAt(u.blank, int64(slot)*slotSize) // if the disk fails now, an op may be quarantined that need not be
	u.taken[slot] = false
}

// name is that of the file, empty when there is none.
func (u *session) name() string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if u.file == nil {
		return ""
	}
	return u.file.Name()
}

// open makes the file, under the lock that those hold who look for dead ones: they must not find it between its making and its locking.
func (u *session) open(s *Store) error {
	if err := usable(s.folder); err != nil {
		return err
	}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	unlock, err := durable.Lock(filepath.Join(s.folder, prefix+"all"), lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.CreateTemp(s.folder, prefix)
	if err != nil {
		return err
	}
	if busy, err := durable.TryLock(f); busy || err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("files cannot be locked in %s: %w", s.folder, err)
	}
	u.file, u.blank = f, bytes.Repeat([]byte(" "), slotSize)
	return nil
}

// Sweep looks for what processes were using when they died, and quarantines what they used for the first time; the rest is suspect. It returns the new entries, and the new suspects but for what is quarantined.
// What the dead have left goes when that is written, and not before: where it cannot be, or this process ends too, the next one finds it. It may be counted twice then.
func (s *Store) Sweep() (found []Entry, news []Suspect) {
	if !s.on() {
		return nil, nil
	}
	files, err := os.ReadDir(s.folder)
	if err != nil {
		return nil, nil
	}
	ours := s.first.name()
	boot := self().Boot
	var unlock func()
	look := func() bool { // only when there is something to look at
		if unlock == nil {
			if unlock, err = durable.Lock(filepath.Join(s.folder, prefix+"all"), lockWait); err != nil {
				s.note("what crashed in use was not looked for: %v", err)
				return false
			}
		}
		return true
	}
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	for _, entry := range files {
		name := filepath.Join(s.folder, entry.Name())
		if !strings.HasPrefix(entry.Name(), prefix) || strings.HasSuffix(name, ".lock") || name == ours {
			continue
		}
		if !look() {
			return nil, nil
		}
		marks, dead := left(name)
		for _, m := range marks {
			if m.Process.Boot != boot { // the machine went down, which no library did
				continue
			}
			e, err := s.add(m.Library, m.Op, fmt.Sprintf("process %d ended while it used %s/%s for the first time: it crashed in it, or was killed", m.Process.ID, m.Op, m.Kernel), true)
			found, dead = append(found, e), dead && err == nil
		}
		if dead {
			os.Remove(name)
		}
	}
	if folder, err := memoryFolder(); err == nil && len(s.callsFiles(folder)) > 0 && look() {
		flights, names := s.flights(folder)
		var written bool
		if news, written = s.suspect(flights); written {
			for _, name := range names {
				os.Remove(name)
			}
		}
	}
	if len(news) > 0 {
		entries := s.List()
		news = slices.DeleteFunc(news, func(n Suspect) bool {
			return slices.ContainsFunc(entries, func(e Entry) bool { return e.same(n.Library) && (e.Op == n.Op || e.Op == Load) })
		})
	}
	return found, news
}

// left returns the marks of a process if that is dead. Nobody else looks at them: whoever does has the lock on all.
func left(name string) (marks []mark, dead bool) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	if busy, err := durable.TryLock(f); busy || err != nil {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSlots*slotSize))
	if err != nil {
		return nil, false
	}
	return parseMarks(data), true
}

// parseMarks reads the lines of a file of marks.
func parseMarks(data []byte) (marks []mark) {
	for line := range bytes.Lines(data) {
		var m mark
		if line = bytes.TrimSpace(line); len(line) == 0 || json.Unmarshal(line, &m) != nil || m.Library.check() != nil || !isOp(m.Op) || !isText(m.Kernel, 1, 64) {
			continue // half a mark is none
		}
		marks = append(marks, m)
	}
	return marks
}
