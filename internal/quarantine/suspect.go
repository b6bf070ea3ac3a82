// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"fmt"
	"slices"
	"time"
)

// Suspect is a kernel that was running when a process ended. It may have crashed; or the process was killed, or ended by itself while others in it were at work. So it is tried again before the library is
// loaded the next time, and quarantined if it fails then.
type Suspect struct {
	Flight
	Count int       `json:"count"`          // of processes that ended so
	Time  time.Time `json:"time"`           // when that was found the last time, for people
	Fate  string    `json:"fate,omitempty"` // empty until it was tried again, then what came of it
}

// What came of a suspect.
const (
	Passed  = "passed"
	Failed  = "failed"  // and is quarantined
	Usual   = "usual"   // its op passed its usual trials; the shape was too large, or does not say all
	Untried = "untried" // for want of time or memory
	Gone    = "gone"    // the library has no such kernel
)

var fates = []string{"", Passed, Failed, Usual, Untried, Gone}

// maxSuspects are kept, the latest.
const maxSuspects = 64

func (s *Suspect) check() error {
	if err := s.Kernel.check(); err != nil {
		return err
	}
	if s.Count < 1 || s.Count > maxCount || s.Time.Year() < 1970 || s.Time.Year() > 9999 || !slices.Contains(fates, s.Fate) {
		return fmt.Errorf("%w: the suspect %s/%s", errInvalid, s.Op, s.Name)
	}
	return nil
}

// suspect remembers what was running when processes ended, and returns that, and whether it was written. They are one when it is the same kernel on the same shape.
func (s *Store) suspect(flights []Flight) (news []Suspect, written bool) {
	if len(flights) == 0 {
		return nil, true
	}
	now := time.Now().UTC().Truncate(time.Second)
	written = s.changeSuspects(func(list []Suspect) []Suspect {
		for _, f := range flights {
			n := Suspect{Flight: f, Count: 1, Time: now}
			list = slices.DeleteFunc(list, func(o Suspect) bool {
				again := o.same(f.Library) && o.Op == f.Op && o.Name == f.Name && o.Variant == f.Variant && o.Sizes == f.Sizes
				if again {
					n.Count = min(o.Count+1, maxCount)
				}
				return again
			})
			list, news = append(list, n), append(news, n)
		}
		return list[max(0, len(list)-maxSuspects):]
	})
	return news, written
}

// Forget drops those that are to be tried again of libraries that were not seen, when they were found before a time.
func (s *Store) Forget(before time.Time, seen func(Library) bool) {
	old := func(o Suspect) bool { return o.Fate == "" && o.Time.Before(before) && !seen(o.Library) }
	if slices.ContainsFunc(s.Suspects(), old) {
		s.changeSuspects(func(list []Suspect) []Suspect { return slices.DeleteFunc(list, old) })
	}
}

// changeSuspects says whether the change was written.
func (s *Store) changeSuspects(change func([]Suspect) []Suspect) bool {
	if !s.on() {
		return false
	}
	note, err := s.suspects.update(change)
	if s.note("%s", note); err != nil {
		s.note("what was running when a process ended is not kept: %v", err)
	}
	return err == nil
}

// Suspects lists what was running when processes ended, the latest last, what was tried again too.
func (s *Store) Suspects() []Suspect {
	if !s.on() {
		return nil
	}
	list, note, err := s.suspects.read()
	if s.note("%s", note); err != nil {
		s.note("what was running when a process ended cannot be read: %v", err)
	}
	return list
}

// Pending lists the suspects of a library that are to be tried again.
func (s *Store) Pending(l Library) []Suspect {
	return slices.DeleteFunc(s.Suspects(), func(o Suspect) bool { return o.Fate != "" || !o.same(l) })
}

// Settle notes what came of suspects that were tried again. What came up since stays as it is.
func (s *Store) Settle(tried []Suspect, fate string) {
	if len(tried) == 0 {
		return
	}
	s.changeSuspects(func(list []Suspect) []Suspect {
		for i := range list {
			if slices.ContainsFunc(tried, func(t Suspect) bool { return t.Flight == list[i].Flight && t.Count == list[i].Count }) {
				list[i].Fate = fate
			}
		}
		return list
	})
}
