// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// lesson is what a process has learned of one kernel: so much at sizes of a class.
func lesson(kernel string, class int) []dispatch.Entry {
	cell := dispatch.Cell{Class: class, Log: 0.25, Spread: 0.5, Samples: 10}
	return []dispatch.Entry{{Op: backends.OpNorm2.String(), Backend: "b", Kernel: kernel, Model: dispatch.Model{Coef: dispatch.Coef{100, 1}, Cells: []dispatch.Cell{cell}}}}
}

// fingerprint is that of a report of no machine.
var fingerprint = (&Report{}).Machine.Fingerprint(nil)

func reportOf() *Report { return &Report{Profile: ProfileReport{Fingerprint: fingerprint}} }

func goodProfile(t *testing.T) []byte {
	t.Helper()
	data, err := (&dispatch.Profile{Fingerprint: fingerprint, Created: "2026-01-02T03:04:05Z", Models: lesson("k", 20)}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A profile that is not what it should be is not used, the report says why, and the file stays. Missing is none, foreign is somebody else's.
func TestF21ProfileIsNotBelieved(t *testing.T) {
	good := string(goodProfile(t))
	field := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct{ text, reason string }{
		"empty":              {"", "damaged"},
		"zeros":              {strings.Repeat("\x00", 4096), "damaged"},
		"zeros at the end":   {good[:len(good)/2] + strings.Repeat("\x00", len(good)/2), "damaged"},
		"another machine":    {field(fingerprint, "0123456789abcdef"), "another machine"},
		"another version":    {field(`"schema": 2`, `"schema": 999`), "another schema version"},
		"NaN":                {field(`"log": 0.25`, `"log": NaN`), "damaged"},
		"a string":           {field(`"log": 0.25`, `"log": "0.25"`), "damaged"},
		"negative":           {field(`"samples": 10`, `"samples": -10`), "damaged"},
		"1e308":              {field(`"log": 0.25`, `"log": 1e308`), "damaged"},
		"1e999":              {field(`"log": 0.25`, `"log": 1e999`), "damaged"},
		"a million entries":  {field(`"models": [`, `"models": [`+strings.Repeat("{},", 1_000_000)), "damaged"},
		"above 1 MiB":        {good + strings.Repeat(" ", maxProfile), "the limit is 1048576"},
		"many entries":       {field(`"models": [`, `"models": [`+strings.Repeat("{},", 300_000)), "more than 512 models"},
		"something after it": {good + "{}", "damaged"},
		"twice the kernel":   {field(`"models": [`, `"models": [{"op":"norm2","backend":"b","kernel":"k","coef":[1,0,0,0,0,0]},`), "damaged"},
	} {
		path := filepath.Join(t.TempDir(), "profile.json")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		report := Report{}
		p, file := report.readProfile(path)
		if r := report.Profile; p != nil || file != path || r.State != "refused" || !strings.Contains(r.Reason, c.reason) {
			t.Errorf("%s: %+v, %q", name, r, file)
		}
		if now, err := os.ReadFile(path); string(now) != c.text {
			t.Errorf("%s: it was changed (%v)", name, err)
		}
	}
	report := Report{}
	if p, _ := report.readProfile(filepath.Join(t.TempDir(), "profile.json")); p != nil || report.Profile.State != "missing" || report.Profile.Reason == "" {
		t.Errorf("a missing one: %+v", report.Profile)
	}
}

func TestF21ProfileTornAtEveryByte(t *testing.T) {
	good := goodProfile(t)
	path := filepath.Join(t.TempDir(), "profile.json")
	for n := range len(good) + 1 {
		if err := os.WriteFile(path, good[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		report := Report{}
		p, _ := report.readProfile(path)
		whole := n >= len(good)-1 // the last one is a newline
		if (p != nil) != whole || (report.Profile.State == "loaded") != whole {
			t.Fatalf("torn after %d bytes of %d: %+v", n, len(good), report.Profile)
		}
	}
}

// What is no file is neither read nor moved away: a device of the machine might be.
func TestF21ProfileIsNoFile(t *testing.T) {
	dir := t.TempDir()
	folder, loop := filepath.Join(dir, "folder"), filepath.Join(dir, "loop")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{folder: "refused"}
	if goruntime.GOOS != "windows" {
		null := filepath.Join(dir, "null") // by a link, which would be moved instead of the device
		if err := os.Symlink(os.DevNull, null); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(loop, loop); err != nil {
			t.Fatal(err)
		}
		states[null], states[loop] = "refused", "missing"
	}
	for path, state := range states {
		report := Report{}
		if p, _ := report.readProfile(path); p != nil || report.Profile.State != state || report.Profile.Reason == "" {
			t.Errorf("%s: %+v", path, report.Profile)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := saveLearned(reportOf(), path, lesson("k", 20), nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: saved, with %v", path, err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was moved away (%v)", path, err)
		}
	}
}

// Whatever the file, programs work.
func TestF21ProgramsWorkWithoutProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	for _, text := range []string{"", "{", strings.Repeat("[", 100_000), strings.Repeat("{},", 1_000_000)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		rt := open(t, WithoutNative(), WithProfile(path))
		if norm, err := rt.Norm2([]float32{3, 4}); err != nil || norm != 5 || rt.Report().Profile.State != "refused" {
			t.Errorf("%.20q: %v, %v, %+v", text, norm, err, rt.Report().Profile)
		}
	}
}

// Times in the file and of the file are for people: with a clock that jumped, back or forward, the same is read and saved.
func TestF25ClockJumps(t *testing.T) {
	var want []byte
	for _, created := range []string{"2026-01-02T03:04:05Z", "1901-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "292277026596-12-04T15:30:08Z", "not a time", ""} {
		for _, modified := range []time.Time{time.Unix(0, 0), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
			path := filepath.Join(t.TempDir(), "profile.json")
			old := bytes.Replace(goodProfile(t), []byte("2026-01-02T03:04:05Z"), []byte(created), 1)
			if err := os.WriteFile(path, old, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, modified, modified); err != nil {
				t.Fatal(err)
			}
			report := Report{}
			base, _ := report.readProfile(path)
			if base == nil || report.Profile.State != "loaded" {
				t.Fatalf("created %q: %+v", created, report.Profile)
			}
			if err := saveLearned(reportOf(), path, lesson("k", 21), base); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got = bytes.Replace(got, []byte(`"created": "`+created+`"`), []byte(`"created": ""`), 1)
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) || !bytes.Contains(got, []byte(`"created": ""`)) {
				t.Errorf("created %q, modified %v:\n%s\nnot\n%s", created, modified, got, want)
			}
		}
	}
}
