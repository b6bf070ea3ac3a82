// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Store is a folder of state, or the memory of this process where there is no folder. All that use the same folder in a process share one.
type Store struct {
	folder   string
	entries  table[Entry]
	verdicts table[Verdict]
	suspects table[Suspect]

	mutex  sync.Mutex
	kept   []Entry   // that could not be written
	passed []Verdict // of this process, and those that were read
	notes  []string
	proven map[string]map[string]bool // by library, the kernels that have been used
	first  session
}

var stores struct {
	mutex sync.Mutex
	all   map[string]*Store
}

// At returns the store of a folder, an empty one when it has none.
func At(folder string) *Store {
	stores.mutex.Lock()
	defer stores.mutex.Unlock()
	s := stores.all[folder]
	if s == nil {
		s = &Store{folder: folder, proven: map[string]map[string]bool{}}
		s.entries = table[Entry]{path: filepath.Join(folder, "quarantine.json"), format: "setun quarantine 1", check: (*Entry).check}
		s.verdicts = table[Verdict]{path: filepath.Join(folder, "probes.json"), format: "setun probes 1", check: (*Verdict).check}
		s.suspects = table[Suspect]{path: filepath.Join(folder, "suspects.json"), format: "setun suspects 1", check: (*Suspect).check}
		if stores.all == nil {
			stores.all = map[string]*Store{}
		}
		stores.all[folder] = s
	}
	if folder != "" {
		if err := usable(folder); err != nil {
			s.note("nothing is remembered between processes: %v", err)
		}
	}
	return s
}

// Path is where the list of entries is, empty where it is in memory alone.
func (s *Store) Path() string {
	if s.folder == "" {
		return ""
	}
	return s.entries.path
}

// Notes says what was wrong with the folder and its files since the process began, each once.
func (s *Store) Notes() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.notes)
}

// note adds a note unless it is there.
func (s *Store) note(format string, args ...any) {
	text := Clean(fmt.Sprintf(format, args...), maxReason)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if text != "" && !slices.Contains(s.notes, text) && len(s.notes) < 100 {
		s.notes = append(s.notes, text)
	}
}

// on says whether there is a folder that can be used.
func (s *Store) on() bool { return s.folder != "" && usable(s.folder) == nil }

// usable says whether a folder may be believed. One that is not there yet may.
func usable(folder string) error {
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", folder)
	}
	return private(folder, info)
}

// List returns all entries.
func (s *Store) List() []Entry {
	var list []Entry
	if s.on() {
		var note string
		var err error
		if list, note, err = s.entries.read(); err != nil {
			s.note("the quarantine cannot be read: %v", err)
		}
		s.note("%s", note)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, e := range s.kept {
		list = add(list, e)
	}
	return list
}

// Find returns the entries for a library.
func (s *Store) Find(l Library) []Entry {
	return slices.DeleteFunc(s.List(), func(e Entry) bool { return !e.same(l) })
}

// Add quarantines a library or an op of it. What is there already is counted once more. Where it cannot be written it holds for this process, and a note says so.
func (s *Store) Add(l Library, op, reason string) Entry { return s.add(l, op, reason, s.on()) }

// Keep is Add for this process alone.
func (s *Store) Keep(l Library, op, reason string) Entry { return s.add(l, op, reason, false) }

func (s *Store) add(l Library, op, reason string, lasting bool) Entry {
	e := Entry{Library: l, Op: op, Reason: Clean(reason, maxReason), Count: 1, Time: time.Now().UTC().Truncate(time.Second)}
	e.File = Clean(e.File, maxName)
	if e.Reason == "" {
		e.Reason = "no reason was given"
	}
	if err := e.check(); err != nil {
		s.note("%v could not be quarantined: %v", l.File, err)
		return e
	}
	err := error(nil)
	if lasting {
		var note string
		note, err = s.entries.update(func(list []Entry) []Entry { return add(list, e) })
		s.note("%s", note)
	}
	if err != nil || !lasting {
		s.mutex.Lock()
		s.kept = add(s.kept, e)
		s.mutex.Unlock()
	}
	if err != nil {
		s.note("what is quarantined now is forgotten when the process ends: %v", err)
	}
	return e
}

// add counts an entry, or appends it.
func add(list []Entry, e Entry) []Entry {
	for i, o := range list {
		if o.same(e.Library) && o.Op == e.Op {
			e.Count = min(o.Count+e.Count, maxCount)
			list = slices.Delete(list, i, i+1)
			break
		}
	}
	return append(list, e)
}

// Lift removes the entries whose digest begins so, or all of them for "all", and what was said of those libraries, so that they are probed again. It returns what was removed.
func (s *Store) Lift(prefix string) (lifted []Entry, err error) {
	prefix = strings.ToLower(prefix)
	match := func(digest string) bool { return prefix == "all" || prefix != "" && strings.HasPrefix(digest, prefix) }
	if s.on() {
		if _, err := s.entries.update(func(list []Entry) []Entry {
			return slices.DeleteFunc(list, func(e Entry) bool {
				if match(e.Digest) {
					lifted = append(lifted, e)
				}
				return match(e.Digest)
			})
		}); err != nil {
			return nil, err
		}
		if len(lifted) > 0 {
			if _, err := s.verdicts.update(func(list []Verdict) []Verdict {
				return slices.DeleteFunc(list, func(v Verdict) bool { return match(v.Digest) })
			}); err != nil {
				return lifted, err
			}
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.passed = slices.DeleteFunc(s.passed, func(v Verdict) bool { return match(v.Digest) })
	s.kept = slices.DeleteFunc(s.kept, func(e Entry) bool {
		if match(e.Digest) {
			lifted = append(lifted, e)
		}
		return match(e.Digest)
	})
	return lifted, nil
}

// Verdict returns what a probe said of a library, and whether that was one of this process.
func (s *Store) Verdict(l Library, scope string) (v Verdict, here, found bool) {
	known := func(v Verdict) bool { return v.same(l) && v.Scope == scope }
	s.mutex.Lock()
	i := slices.IndexFunc(s.passed, known)
	if i >= 0 {
		v = s.passed[i]
	}
	s.mutex.Unlock()
	if i >= 0 || !s.on() {
		return v, true, i >= 0
	}
	list, note, err := s.verdicts.read()
	if err != nil {
		s.note("the verdicts of probes cannot be read: %v", err)
	}
	s.note("%s", note)
	if i = slices.IndexFunc(list, known); i < 0 {
		return v, false, false
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.passed = append(s.passed, list[i])
	return list[i], false, true
}

// Pass keeps a verdict, for other processes too if it is a lasting one.
func (s *Store) Pass(lasting bool, v Verdict) {
	v.File, v.Version, v.Build = Clean(v.File, maxName), Clean(v.Version, maxReason), Clean(v.Build, maxReason)
	if err := v.check(); err != nil {
		s.note("the verdict on %s is not kept: %v", v.File, err)
		return
	}
	replace := func(list []Verdict) []Verdict {
		return append(slices.DeleteFunc(list, func(o Verdict) bool { return o.same(v.Library) && o.Scope == v.Scope }), v)
	}
	s.mutex.Lock()
	s.passed = replace(s.passed)
	s.mutex.Unlock()
	if !lasting || !s.on() {
		return
	}
	note, err := s.verdicts.update(replace)
	if s.note("%s", note); err != nil {
		s.note("the verdicts of probes are forgotten when the process ends: %v", err)
	}
}
