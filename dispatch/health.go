// SPDX-License-Identifier: Apache-2.0

package dispatch

import "time"

// Health says whether an arm may run.
type Health uint8

// The states. A suspect rests, then is on trial: its next call decides. What is quarantined never runs again in this process.
const (
	Healthy Health = iota
	Suspect
	Quarantined
	numHealth
)

// String returns the state in a word.
func (h Health) String() string {
	return [...]string{"healthy", "suspect", "quarantined", "unknown"}[min(h, numHealth)]
}

// Happening is what an arm did.
type Happening uint8

// What may happen.
const (
	Answered Happening = iota // a call ended well
	Failed                    // a call failed, and it was the backend's fault
	Lied                      // a result was wrong
	numHappenings
)

// transitions is the whole of it: from a state by what happens. A suspect that fails as often in a row as Strikes is quarantined.
var transitions = [numHealth][numHappenings]Health{
	//              answered     failed       lied
	Healthy:     {Healthy, Suspect, Quarantined},
	Suspect:     {Healthy, Suspect, Quarantined},
	Quarantined: {Quarantined, Quarantined, Quarantined},
}

const (
	// Strikes are the failures in a row after which an arm is quarantined.
	Strikes = 10
	// An arm that fails rests for firstRest, then twice as long each time, up to longestRest.
	firstRest   = time.Second
	longestRest = 300 * time.Second
)

// Condition is an arm's health and what led to it. The zero value is healthy.
type Condition struct {
	Health  Health
	Strikes int           // failures in a row
	Rest    time.Duration // for which it may not run from now on; 0 for none
}

// After returns the condition after something has happened.
func (c Condition) After(h Happening) Condition {
	if h >= numHappenings || c.Health >= numHealth {
		return c
	}
	next := Condition{Health: transitions[c.Health][h]}
	if h != Answered {
		next.Strikes = c.Strikes + 1
	}
	switch {
	case next.Health != Suspect:
	case next.Strikes >= Strikes:
		next.Health = Quarantined
	default:
		next.Rest = min(firstRest<<min(next.Strikes-1, 20), longestRest)
	}
	return next
}
