// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"
)

// callsFile is a file of calls as a process leaves it: two kernels, and a call of the second in the third place.
func callsFile(t testing.TB, boot string) []byte {
	t.Helper()
	text, err := json.Marshal(head{callsFormat, process{ID: 7, Boot: boot}, []Kernel{{library(1), "dot", "avx2"}, {library(2), Copies, "cuda"}}})
	if err != nil {
		t.Fatal(err)
	}
	data := append(make([]byte, 0, headSize+4*placeSize), append(text, '\n')...)
	data = data[:headSize+4*placeSize]
	at := data[headSize+2*placeSize:]
	binary.NativeEndian.PutUint32(at, 2)
	binary.NativeEndian.PutUint32(at[4:], 9)
	for i := range Dims {
		binary.NativeEndian.PutUint64(at[8+8*i:], uint64(100+i))
	}
	return data
}

func TestReadFlights(t *testing.T) {
	good := callsFile(t, "b")
	copy(good[headSize+3*placeSize:], good[headSize+2*placeSize:][:placeSize]) // twice at once is one end of a process
	want := Flight{Kernel: Kernel{library(2), Copies, "cuda"}, Process: 7, Variant: 9, Sizes: [Dims]int64{100, 101, 102, 103, 104, 105, 106}}
	if list := readFlights(good, "b"); len(list) != 1 || list[0] != want {
		t.Errorf("%+v", list)
	}
	for name, data := range map[string][]byte{
		"of another boot": callsFile(t, "c"), "nothing": nil, "no head": good[:headSize-1], "no places": good[:headSize], "half a place": good[:headSize+2*placeSize+8],
		"no such kernel": bytes.ReplaceAll(good, []byte("\x02\x00\x00\x00\x09"), []byte("\x03\x00\x00\x00\x09")), "format": bytes.Replace(good, []byte("calls 1"), []byte("calls 2"), 1),
		"op": bytes.Replace(good, []byte(`"dot"`), []byte(`"dog"`), 1), "load": bytes.Replace(good, []byte(`"copies"`), []byte(`"load"  `), 1), "digest": bytes.Replace(good, []byte(`"digest":"`), []byte(`"digest":"x`), 1),
		"JSON": bytes.Replace(good, []byte("{"), []byte("["), 1), "no end": bytes.ReplaceAll(good, []byte("\n"), []byte(" ")),
	} {
		if list := readFlights(data, "b"); len(list) != 0 {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

func FuzzReadFlights(f *testing.F) {
	f.Add(callsFile(f, "b")[:headSize], []byte{1, 0, 0, 0})
	f.Add([]byte("{}"), []byte{})
	f.Fuzz(func(t *testing.T, text, places []byte) {
		data := make([]byte, headSize) // a small text is enough of a file for the fuzzer
		copy(data, text)
		for _, flight := range readFlights(append(data, places...), "b") {
			s := Suspect{Flight: flight, Count: 1}
			if err := s.Kernel.check(); err != nil {
				t.Error(err)
			}
			for _, n := range flight.Sizes {
				if n < 0 {
					t.Errorf("%+v", flight)
				}
			}
		}
	})
}

// What is to be tried again is dropped when its library has not come by for long, and nothing else is.
func TestForget(t *testing.T) {
	s := At(t.TempDir())
	for n := range 3 {
		s.suspect([]Flight{{Kernel: Kernel{library(n), "dot", "avx2"}, Process: n}})
	}
	s.Settle(s.Pending(library(1)), Passed)
	seen := func(l Library) bool { return l.same(library(2)) }
	if s.Forget(time.Now().Add(-time.Hour), seen); len(s.Suspects()) != 3 {
		t.Errorf("too early: %+v", s.Suspects())
	}
	if s.Forget(time.Now().Add(time.Hour), seen); len(s.Suspects()) != 2 || len(s.Pending(library(0))) != 0 || len(s.Pending(library(2))) != 1 {
		t.Errorf("%+v", s.Suspects())
	}
}

// What was running is kept once for each kernel and shape, until it has been tried again.
func TestSuspects(t *testing.T) {
	s := At(t.TempDir())
	one, two := Flight{Kernel: Kernel{library(1), "dot", "avx2"}, Process: 7}, Flight{Kernel: Kernel{library(1), "dot", "avx2"}, Process: 8}
	two.Sizes[0] = 5
	s.suspect([]Flight{one, two})
	s.suspect([]Flight{one})
	list := s.Suspects()
	if len(list) != 2 || list[0].Flight != two || list[0].Count != 1 || list[1].Flight != one || list[1].Count != 2 || len(s.Pending(library(1))) != 2 || len(s.Pending(library(2))) != 0 {
		t.Fatalf("%+v", list)
	}
	s.Settle(list[1:], Passed)
	if left := s.Pending(library(1)); len(left) != 1 || left[0].Flight != two || len(s.Suspects()) != 2 {
		t.Errorf("after one was tried: %+v", s.Suspects())
	}
	s.suspect([]Flight{one})
	if left := s.Pending(library(1)); len(left) != 2 || left[1].Count != 3 {
		t.Errorf("once more: %+v", left)
	}
	for i := range 2 * maxSuspects {
		one.Sizes[1] = int64(i)
		s.suspect([]Flight{one})
	}
	if list = s.Suspects(); len(list) != maxSuspects || list[maxSuspects-1].Sizes[1] != 2*maxSuspects-1 {
		t.Errorf("%d are kept", len(list))
	}
	if notes := s.Notes(); len(notes) != 0 {
		t.Errorf("%q", notes)
	}
}
