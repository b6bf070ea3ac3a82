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

// List returns all entries, those that only verdicts know of as well: the list was lost then, or has become too long.
func (s *Store) List() []Entry {
	var list []Entry
	var verdicts []Verdict
	if s.on() {
		var note string
		var err error
		if list, note, err = s.entries.read(); err != nil {
			s.note("the quarantine cannot be read: %v", err)
		}
		s.note("%s", note)
		verdicts, _ = s.readVerdicts()
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, e := range s.kept {
		list = add(list, e)
	}
	for _, v := range s.passed {
		if !v.written {
			verdicts = append(verdicts, v)
		}
	}
	for _, v := range verdicts {
		list = merge(list, v.Entries())
	}
	return list
}

// merge appends the entries that are not there.
func merge(list, more []Entry) []Entry {
	for _, e := range more {
		if !slices.ContainsFunc(list, func(o Entry) bool { return o.same(e.Library) && o.Op == e.Op }) {
			list = append(list, e)
		}
	}
	return list
}

// Find returns the entries for a library.
func (s *Store) Find(l Library) []Entry {
	return slices.DeleteFunc(s.List(), func(e Entry) bool { return !e.same(l) })
}

// Add quarantines a library or an op of it. What is there already is counted once more. Where it cannot be written it holds for this process, and a note says so. What was said of the library without
// knowing of it ends: the next verdict does.
func (s *Store) Add(l Library, op, reason string) Entry {
	e, _ := s.add(l, op, reason, s.on())
	return e
}

// Keep is Add for this process alone.
func (s *Store) Keep(l Library, op, reason string) Entry {
	e, _ := s.add(l, op, reason, false)
	return e
}

// add has an error when the entry should last and could not be written.
func (s *Store) add(l Library, op, reason string, lasting bool) (Entry, error) {
	e := Entry{Library: l, Op: op, Reason: Clean(reason, maxReason), Count: 1, Time: time.Now().UTC().Truncate(time.Second)}
	e.File = Clean(e.File, maxName)
	if e.Reason == "" {
		e.Reason = "no reason was given"
	}
	if err := e.check(); err != nil {
		s.note("%v could not be quarantined: %v", l.File, err)
		return e, nil
	}
	err := error(nil)
	if lasting {
		s.end(l, op) // first: should this process die in between, the library is tried again
		var note string
		note, err = s.entries.update(func(list []Entry) []Entry { return add(list, e) })
		s.note("%s", note)
	}
	s.mutex.Lock()
	if err != nil || !lasting {
		s.kept = add(s.kept, e)
	} else { // what could not be written before is now
		s.kept = slices.DeleteFunc(s.kept, func(o Entry) bool { return o.same(l) && o.Op == op })
	}
	s.mutex.Unlock()
	if err != nil {
		s.note("what is quarantined now is forgotten when the process ends: %v", err)
	}
	return e, err
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

// end drops the verdicts on a library that do not say that the op is not to be used. Those that do stay: each scope's probe finds the same, and would end the others' verdicts for ever.
func (s *Store) end(l Library, op string) {
	of := func(v Verdict) bool {
		return v.same(l) && !slices.ContainsFunc(v.Wrong, func(w Wrong) bool { return w.Op == op })
	}
	s.mutex.Lock()
	s.passed = slices.DeleteFunc(s.passed, of)
	s.mutex.Unlock()
	if list, _ := s.readVerdicts(); slices.ContainsFunc(list, of) {
		s.changeVerdicts(func(list []Verdict) []Verdict { return slices.DeleteFunc(list, of) })
	}
}

// Lift removes the entries whose digest begins so, or all of them for "all", and what was said of those libraries, so that they are probed again. It returns what was removed.
func (s *Store) Lift(prefix string) (lifted []Entry, err error) {
	prefix = strings.ToLower(prefix)
	match := func(l Library) bool { return prefix == "all" || prefix != "" && strings.HasPrefix(l.Digest, prefix) }
	entry := func(e Entry) bool {
		if match(e.Library) {
			lifted = merge(lifted, []Entry{e})
		}
		return match(e.Library)
	}
	verdict := func(v Verdict) bool {
		if match(v.Library) {
			lifted = merge(lifted, v.Entries())
		}
		return match(v.Library)
	}
	if s.on() {
		note, err := s.entries.update(func(list []Entry) []Entry { return slices.DeleteFunc(list, entry) })
		if s.note("%s", note); err != nil {
			return nil, err
		}
		note, err = s.verdicts.update(func(list []Verdict) []Verdict { return slices.DeleteFunc(list, verdict) })
		if s.note("%s", note); err != nil {
			return lifted, err
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.kept = slices.DeleteFunc(s.kept, entry)
	s.passed = slices.DeleteFunc(s.passed, verdict)
	return lifted, nil
}

// Verdict returns what a probe said of a library, and whether that was one of this process. One that says what is not used ends when somebody lifts that, whichever process that is.
func (s *Store) Verdict(l Library, scope string) (v Verdict, here, found bool) {
	known := func(v Verdict) bool { return v.same(l) && v.Scope == scope }
	s.mutex.Lock()
	i := slices.IndexFunc(s.passed, known)
	if here = i >= 0; here {
		v = s.passed[i]
	}
	s.mutex.Unlock()
	if !s.on() || here && !(v.written && len(v.Wrong) > 0) {
		return v, here, here
	}
	list, err := s.readVerdicts()
	if err != nil {
		return v, here, here
	}
	i = slices.IndexFunc(list, known)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.passed = slices.DeleteFunc(s.passed, known)
	if i < 0 {
		return Verdict{}, false, false
	}
	list[i].written = true
	s.passed = append(s.passed, list[i])
	return list[i], here, true
}

// Pass keeps a verdict, with what is quarantined of the library now: for other processes too if it is a lasting one and they know that as well.
func (s *Store) Pass(lasting bool, v Verdict) {
	v.File, v.Version, v.Build = Clean(v.File, maxName), Clean(v.Version, maxReason), Clean(v.Build, maxReason)
	v.Wrong = nil
	for _, e := range s.Find(v.Library) {
		v.Wrong = append(v.Wrong, Wrong{e.Op, e.Reason, e.Time})
	}
	if err := v.check(); err != nil {
		s.note("the verdict on %s is not kept: %v", v.File, err)
		return
	}
	replace := func(list []Verdict) []Verdict {
		return append(slices.DeleteFunc(list, func(o Verdict) bool { return o.same(v.Library) && o.Scope == v.Scope }), v)
	}
	s.mutex.Lock()
	alone := slices.ContainsFunc(s.kept, func(e Entry) bool { return e.same(v.Library) }) // others are to find that by themselves
	s.mutex.Unlock()
	if lasting && !alone && s.on() {
		v.written = s.changeVerdicts(replace)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.passed = replace(s.passed)
}

func (s *Store) readVerdicts() ([]Verdict, error) {
	list, note, err := s.verdicts.read()
	if s.note("%s", note); err != nil {
		s.note("the verdicts of probes cannot be read: %v", err)
	}
	return list, err
}

// changeVerdicts says whether the change was written.
func (s *Store) changeVerdicts(change func([]Verdict) []Verdict) bool {
	note, err := s.verdicts.update(change)
	if s.note("%s", note); err != nil {
		s.note("the verdicts of probes are forgotten when the process ends: %v", err)
	}
	return err == nil
}
