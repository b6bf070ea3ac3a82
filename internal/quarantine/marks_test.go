// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzMarks reads what a process that died has left. What is taken from it can be quarantined and is found again.
func FuzzMarks(f *testing.F) {
	text, err := json.Marshal(mark{Library: library(1), Op: "dot", Kernel: "avx2", Process: process{ID: 7, Start: "1", Boot: "b"}})
	if err != nil {
		f.Fatal(err)
	}
	slot := append(text, bytes.Repeat([]byte(" "), slotSize-1-len(text))...)
	f.Add(append(slot, '\n'))
	f.Add(bytes.Join([][]byte{slot, text, text[:len(text)-9], bytes.Repeat([]byte{0}, 100)}, []byte("\n")))
	for _, change := range []string{`"op":"rm"`, `"op":"load"`, `"kernel":"\u001b[2J"`, `"digest":"00"`, `"file":"../x"`, `"process":{"pid":1e308}`} {
		name, _, _ := strings.Cut(change, ":")
		at := strings.Index(string(text), name)
		f.Add([]byte(string(text[:at]) + change + "," + string(text[at:])))
	}
	if n := len(parseMarks(slot)); n != 1 {
		f.Fatalf("%d marks", n)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		marks := parseMarks(data)
		if len(marks) > bytes.Count(data, []byte("\n"))+1 {
			t.Fatalf("%d marks", len(marks))
		}
		s := new(Store)
		for _, m := range marks {
			if e := s.Add(m.Library, m.Op, "it crashed in "+m.Kernel); e.check() != nil || len(s.Find(m.Library)) == 0 {
				t.Errorf("%+v cannot be quarantined: %v", m, e.check())
			}
		}
		if len(s.notes) != 0 {
			t.Errorf("%q", s.notes)
		}
	})
}
