// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
)

// sampleProfile has models of three arms, with many cells.
func sampleProfile() *Profile {
	r := rand.New(rand.NewPCG(11, 11))
	p := &Profile{Schema: Schema, Fingerprint: "abc", Machine: "Zen 4, 2 cores", Created: "2026-01-01"}
	for _, op := range []backends.Op{backends.OpQuantize, backends.OpKMeans} {
		for _, kernel := range []string{"avx2", "2 threads"} {
			a := Arm{Backend: "simd_c", Kernel: kernel, Threads: 1}
			p.Set(op, a, Fit(Prior(op, a), plantedShapes(r, op, Prior(op, a), 0.2, 100)))
		}
	}
	return p
}

func TestProfileSurvivesARoundTrip(t *testing.T) {
	p := sampleProfile()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Models)
	if again, _ := p.Encode(); !bytes.Equal(again, data) {
		t.Error("another order of models gives other bytes")
	}
	q, err := DecodeProfile(data, "abc")
	if err != nil {
		t.Fatal(err)
	}
	byName := func(a, b Entry) int { return strings.Compare(a.name(), b.name()) }
	slices.SortFunc(p.Models, byName)
	slices.SortFunc(q.Models, byName)
	if diff := cmp.Diff(p, q); diff != "" {
		t.Error(diff)
	}
}

// A file that was cut off anywhere, or in which any one byte changed, is refused or still within all limits; it never panics.
func TestDamagedProfiles(t *testing.T) {
	data, err := sampleProfile().Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(12, 12))
	for range 400 {
		if _, err := DecodeProfile(data[:r.IntN(len(data)-1)], "abc"); !errors.Is(err, ErrProfileDamaged) {
			t.Fatalf("a part of a profile: %v", err)
		}
		hit := bytes.Clone(data)
		hit[r.IntN(len(hit))] = byte(r.Uint32())
		decodes(t, hit)
	}
}

func TestProfileLimits(t *testing.T) {
	many := &Profile{}
	for i := range maxModels + 1 {
		many.Models = append(many.Models, Entry{"dot", "b", fmt.Sprint("k", i), Model{Coef: Coef{1}}})
	}
	if _, err := many.Encode(); !errors.Is(err, ErrProfileDamaged) {
		t.Errorf("too many models: %v", err)
	}
	cells := &Profile{}
	for i := range maxCells/numClasses + 1 {
		e := Entry{"dot", "b", fmt.Sprint("k", i), Model{Coef: Coef{1}}}
		for c := range numClasses {
			e.Cells = append(e.Cells, Cell{0, c, 0.123456789012345678, 0.123456789012345678, 1000})
		}
		cells.Models = append(cells.Models, e)
	}
	if _, err := cells.Encode(); !errors.Is(err, ErrProfileDamaged) {
		t.Errorf("too many cells: %v", err)
	}
	cells.Models = cells.Models[1:]
	data, err := cells.Encode()
	if err != nil {
		t.Fatalf("as many cells as are allowed: %v", err)
	}
	if _, err := DecodeProfile(data, ""); err != nil {
		t.Errorf("as many cells as are allowed, read again: %v", err)
	}
	if _, err := DecodeProfile(append(data, make([]byte, maxProfileBytes)...), ""); !errors.Is(err, ErrProfileDamaged) {
		t.Errorf("a large file: %v", err)
	}
	deep := []byte(`{"schema":2,"x":` + strings.Repeat("[", 100_000))
	if _, err := DecodeProfile(deep, ""); !errors.Is(err, ErrProfileDamaged) {
		t.Errorf("a deep file: %v", err)
	}
	if data, err := (*Profile)(nil).Encode(); err != nil || len(data) == 0 {
		t.Errorf("no profile: %q, %v", data, err)
	}
}

// decodes checks what must hold for any data at all.
func decodes(t *testing.T, data []byte) {
	p, err := DecodeProfile(data, "abc")
	if err != nil {
		if !errors.Is(err, ErrProfileDamaged) && !errors.Is(err, ErrProfileForeign) && !errors.Is(err, ErrProfileVersion) {
			t.Fatalf("an error without a sentinel: %v", err)
		}
		return
	}
	again, err := p.Encode()
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	if _, err := DecodeProfile(again, "abc"); err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	arms := map[backends.Op][]Arm{}
	for _, e := range p.Models {
		if op := opOf(e.Op); len(arms[op]) < MaxArms {
			arms[op] = append(arms[op], Arm{Backend: e.Backend, Kernel: e.Kernel, Threads: 1})
		}
	}
	router, err := NewRouter(arms, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for op := range arms {
		for _, s := range []Shape{{Op: op}, {Op: op, N: 1 << 20, D: 64, K: 64, Groups: 1, Out: 1 << 20}, {Op: op, N: 1 << 62, D: 1 << 62, K: 1 << 62}} {
			if d := router.Decide(&s, 0); d.Arm < 0 || !(d.Nanos >= minNanos && d.Nanos <= maxNanos) {
				t.Fatalf("%+v: %+v", s, d)
			}
		}
	}
}

func FuzzProfileRoundTrip(f *testing.F) {
	data, err := sampleProfile().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, seed := range []string{
		``, `null`, `[]`, `{}`, `{"schema":2}`, `{"schema":2,"fingerprint":"abc"}`, `{"schema":2,"fingerprint":"abc","models":null}`,
		`{"schema":2,"fingerprint":"abc","models":[{"op":"dot","backend":"b","kernel":"k","coef":[0,1e12,0,0,0,0],"cells":[{"variant":11,"class":127,"log":-8,"spread":10,"samples":1}]}]}`,
		`{"schema":2,"fingerprint":"abc","models":[{"op":"dot","backend":"b","kernel":"k","coef":[5e-324,0,0,0,0,0]}]}`,
		`{"schema":2,"fingerprint":"abc","models":[{"op":"dot","backend":"b","kernel":"k","coef":null}]}`,
		`{"schema":2e0,"fingerprint":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(decodes)
}

func FuzzParseShape(f *testing.F) {
	for _, seed := range []string{"", "1", "100000x64x256", "-1x-1x-1", "9223372036854775807", "1xx1", "+5", "x"} {
		f.Add("kmeans", seed)
		f.Add("quantize", seed)
	}
	f.Fuzz(func(t *testing.T, op, text string) {
		s, err := ParseShape(op, text)
		if err != nil {
			if !errors.Is(err, ErrShape) {
				t.Fatalf("an error without a sentinel: %v", err)
			}
			return
		}
		again, err := ParseShape(op, s.String())
		if err != nil || again != s {
			t.Fatalf("%q is %+v, and its text is %+v, %v", text, s, again, err)
		}
	})
}

// A list of a million entries, of two or three bytes each, is refused before it takes memory.
func TestF21AMillionEntries(t *testing.T) {
	for name, text := range map[string]string{
		"models":  `{"schema":2,"fingerprint":"abc","models":[` + strings.Repeat("{},", 349_000) + `{}]}`,
		"numbers": `{"schema":2,"fingerprint":"abc","models":[` + strings.Repeat("0,", 520_000) + `0]}`,
		"cells":   `{"schema":2,"fingerprint":"abc","models":[{"op":"dot","backend":"b","kernel":"k","coef":[1,0,0,0,0,0],"cells":[` + strings.Repeat("{},", 349_000) + `{}]}]}`,
		"million": `{"schema":2,"fingerprint":"abc","models":[` + strings.Repeat("{},", 1_000_000) + `{}]}`,
		"links":   `{"schema":2,"fingerprint":"abc","models":[],"links":[` + strings.Repeat("{},", 349_000) + `{}]}`,
	} {
		data := []byte(text)
		var err error
		if n := testing.AllocsPerRun(1, func() { _, err = DecodeProfile(data, "abc") }); n > 100 || !errors.Is(err, ErrProfileDamaged) {
			t.Errorf("%s: %v allocations, %v", name, n, err)
		}
	}
}
