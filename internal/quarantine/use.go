// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Use is a kernel that this process has not used yet.
type Use struct {
	store  *Store
	record []byte
	key    string // of the library
	name   string // op.kernel
	proven atomic.Bool
}

// Use returns what marks the first use of a kernel, nil when some process has used it already and went on.
func (s *Store) Use(l Library, op, kernel string) *Use {
	u := &Use{store: s, key: l.key(), name: op + "." + kernel}
	if !plain(u.name) { // it becomes a file's name
		u.name = fmt.Sprintf("%s.%016x", op, hash(kernel))
	}
	if s.used(u.key)[u.name] {
		return nil
	}
	l.File = Clean(l.File, maxName)
	data, err := json.Marshal(mark{Library: l, Op: op, Kernel: Clean(kernel, 64), Process: self()})
	if err != nil || len(data) >= slotSize || !isOp(op) {
		return nil
	}
	u.record = slices.Concat(data, []byte(strings.Repeat(" ", slotSize-1-len(data))), []byte("\n"))
	return u
}

// Begin notes that the kernel is about to be called. It returns what End needs. Where there is no folder it does nothing.
func (u *Use) Begin() (slot int) {
	if u.proven.Load() {
		return noSlot
	}
	return u.store.first.begin(u.store, u.record)
}

// End notes that the call has come back, with a result if it is to count as used.
func (u *Use) End(slot int, used bool) {
	u.store.first.end(slot)
	if used && !u.proven.Swap(true) {
		u.store.prove(u.key, u.name)
	}
}

// key is the identity of a library as part of a file's name.
func (l Library) key() string {
	return fmt.Sprintf("%.32s-%016x", l.Digest, hash(l.Driver, l.Machine, l.Contract))
}

func hash(words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		h.Write(append([]byte(w), 0))
	}
	return h.Sum64()
}

func plain(name string) bool {
	return len(name) <= 80 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-.") == ""
}

const maxLibraries = 64 // folders of kernels that have been used

// used returns the kernels of a library that have been used. The folder is read once: others may use more meanwhile, which costs a mark.
func (s *Store) used(key string) map[string]bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if known := s.proven[key]; known != nil {
		return known
	}
	known := map[string]bool{}
	if s.on() {
		if d, err := os.Open(filepath.Join(s.folder, "used", key)); err == nil {
			names, _ := d.Readdirnames(maxEntries)
			d.Close()
			for _, name := range names {
				known[name] = true
			}
		}
	}
	s.proven[key] = known
	return known
}

// prove notes that a kernel was used and the process went on: an empty file, which needs neither lock nor sync. When it is lost, by a power failure say, one more mark is made.
func (s *Store) prove(key, name string) {
	s.mutex.Lock()
	known := map[string]bool{name: true} // a copy: others read the old one
	for n := range s.proven[key] {
		known[n] = true
	}
	s.proven[key] = known
	s.mutex.Unlock()
	if !s.on() || len(known) > maxEntries {
		return
	}
	folder := filepath.Join(s.folder, "used", key)
	if os.Mkdir(folder, 0o700) == nil || os.MkdirAll(folder, 0o700) == nil {
		if f, err := os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			f.Close()
		}
	}
	if len(known) == 1 {
		s.prune(filepath.Dir(folder))
	}
}

// prune removes what is known of the libraries that were looked at longest ago, when there are many.
func (s *Store) prune(folder string) {
	list, err := os.ReadDir(folder)
	if err != nil || len(list) <= maxLibraries {
		return
	}
	age := map[string]time.Time{}
	for _, e := range list {
		if info, err := e.Info(); err == nil {
			age[e.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(list, func(a, b os.DirEntry) int { return age[a.Name()].Compare(age[b.Name()]) })
	for _, e := range list[:len(list)-maxLibraries] {
		os.RemoveAll(filepath.Join(folder, e.Name()))
	}
}
