// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"testing"
	"time"
)

// TestHealth walks through every state and everything that may happen in it.
func TestHealth(t *testing.T) {
	suspect := Condition{Suspect, 1, time.Second}
	for _, c := range []struct {
		from Condition
		what Happening
		want Condition
	}{
		{Condition{}, Answered, Condition{}},
		{Condition{}, Failed, suspect},
		{Condition{}, Lied, Condition{Quarantined, 1, 0}},
		{suspect, Answered, Condition{}},
		{suspect, Failed, Condition{Suspect, 2, 2 * time.Second}},
		{suspect, Lied, Condition{Quarantined, 2, 0}},
		{Condition{Quarantined, 1, 0}, Answered, Condition{Quarantined, 0, 0}},
		{Condition{Quarantined, 1, 0}, Failed, Condition{Quarantined, 2, 0}},
		{Condition{Quarantined, 1, 0}, Lied, Condition{Quarantined, 2, 0}},
		{Condition{Suspect, 8, time.Second}, Failed, Condition{Suspect, 9, 256 * time.Second}},
		{Condition{Health: numHealth}, Failed, Condition{Health: numHealth}},
		{suspect, numHappenings, suspect},
	} {
		if got := c.from.After(c.what); got != c.want {
			t.Errorf("%+v after %d: %+v, wanted %+v", c.from, c.what, got, c.want)
		}
	}
	var c Condition
	for i := range Strikes {
		if c.Health == Quarantined {
			t.Fatalf("quarantined after %d failures", i)
		}
		c = c.After(Failed)
		if c.Rest > longestRest {
			t.Errorf("%+v", c)
		}
	}
	if c.Health != Quarantined {
		t.Errorf("%+v after %d failures", c, Strikes)
	}
}
