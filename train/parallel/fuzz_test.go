// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLaunched reads the environments of launchers.
func FuzzLaunched(f *testing.F) {
	f.Add("", "", "", "", "", "", "")
	f.Add("2", "1", "", "", "", "", "")
	f.Add("", "0", "", "", "", "", "4")
	f.Add("", "", "x", "0", "-1", "", "99999999999999999999")
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, slurm string) {
		environment := map[string]string{"OMPI_COMM_WORLD_SIZE": a, "OMPI_COMM_WORLD_RANK": b, "PMI_SIZE": c, "PMI_RANK": d, "PMIX_SIZE": e, "PMIX_RANK": g, "SLURM_STEP_NUM_TASKS": slurm}
		l, err := launched(func(name string) string { return environment[name] })
		switch {
		case err != nil && (l != nil || !errors.Is(err, ErrWorld)):
			t.Fatalf("%+v, %v", l, err)
		case a+b+c+d+e+g == "" && (l != nil || err != nil):
			t.Fatalf("nothing was launched: %+v, %v", l, err)
		case l != nil && (l.size < 0 || l.size == 1 || environment[l.by] == "" && environment[strings.Replace(l.by, "RANK", "SIZE", 1)] == ""):
			t.Fatalf("%+v of %v", l, environment)
		}
	})
}

// liar is a rank of three, whose others say what they are told to, or nothing.
type liar struct {
	Alone
	rank int
	said []byte
}

func (l *liar) Rank() int { return l.rank }
func (l *liar) Size() int { return 3 }
func (l *liar) Gather(all, mine []byte) error {
	n := copy(all, l.said)
	l.said = l.said[n:]
	copy(all[l.rank*len(mine):], mine)
	return nil
}

// FuzzForum holds meetings with ranks that say anything.
func FuzzForum(f *testing.F) {
	f.Add(make([]byte, 200), uint8(0), false)
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}, "an error \xff of another\x00"...), uint8(0), true)
	f.Add(bytes.Repeat([]byte{0xff}, 3*maxReport+100), uint8(2), false)
	f.Fuzz(func(t *testing.T, said []byte, rank uint8, bad bool) {
		var mine error
		if bad {
			mine = ErrDiffer
		}
		check := func(err error) {
			var stop *Stop
			if err != nil && (!errors.As(err, &stop) || stop.Rank < 0 || stop.Rank > 2 || !utf8.ValidString(err.Error())) {
				t.Fatalf("%v", err)
			}
		}
		for _, meet := range []func(f *Forum) error{
			func(f *Forum) error { return f.Agree(mine) },
			func(f *Forum) error { x, y := 1.0, 2.0; return f.Mean(mine, &x, &y) },
			func(f *Forum) error { return f.Same("step", 7, mine) },
			func(f *Forum) error {
				all, err := f.All(nil, []float64{1, 2}, mine)
				if err == nil && len(all) != 6 {
					t.Fatalf("%d values", len(all))
				}
				return err
			},
		} {
			err := meet(NewForum(&liar{rank: int(rank % 3), said: bytes.Clone(said)}, ErrWorld, ErrDiffer))
			if check(err); bad && err == nil {
				t.Fatal("nobody heard of the error")
			}
		}
		any, err := NewForum(&liar{rank: int(rank % 3), said: bytes.Clone(said)}).Any(bad)
		if check(err); bad && err == nil && !any {
			t.Fatal("nobody heard of it")
		}
	})
}
