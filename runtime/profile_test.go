// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// taught opens a runtime whose second backend is ten times as fast as predicted, at a profile, and makes calls until that is worth saving.
func taught(t *testing.T, path string, options ...Option) *Runtime {
	t.Helper()
	nap := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	rt := two(t, nap(60*time.Microsecond), nap(20*time.Microsecond), append([]Option{WithProfile(path)}, options...)...)
	x := ramp(1000)
	until(t, rt, x, func() bool { return chosen(rt, x) == "second/k" })
	for begin := time.Now(); ; {
		if _, err := rt.Norm2(x); err != nil {
			t.Fatal(err)
		}
		if l := rt.Learning(); l.Learned > worthCall && l.Time > worthTime {
			return rt
		} else if time.Since(begin) > time.Minute {
			t.Fatalf("%+v", l)
		}
	}
}

// What was learned is there when a runtime is opened again, also when several save at once.
func TestLearnedIsSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "setun", "profile.json")
	list := []*Runtime{taught(t, path), taught(t, path)}
	var all sync.WaitGroup
	for _, rt := range list {
		all.Go(func() {
			if err := rt.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dispatch.DecodeProfile(data, list[0].Report().Profile.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	shape := dispatch.Vector(backends.OpNorm2, 1000)
	first, _ := p.Model(shape.Op, dispatch.Arm{Backend: "first", Kernel: "k"})
	second, _ := p.Model(shape.Op, dispatch.Arm{Backend: "second", Kernel: "k"})
	if a, b := first.Predict(shape), second.Predict(shape); a.Samples == 0 || b.Samples == 0 { // which of them is faster is the clock's to say
		t.Errorf("the first is predicted to take %+v, the second %+v", a, b)
	}
	if rt := open(t, WithoutNative(), WithProfile(path)); rt.Report().Profile.State != "loaded" {
		t.Errorf("%+v", rt.Report().Profile)
	}
}

func TestNothingIsSavedUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := taught(t, path, WithoutSaving()).Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(LearnVariable, "unsaved")
	if err := taught(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(LearnVariable, "")
	nap := func() time.Duration { return 30 * time.Microsecond }
	rt := two(t, nap, nap, WithProfile(path)) // too few calls to be worth it
	for range 10 {
		if _, err := rt.Norm2(ramp(1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a profile was written")
	}
}

// A file that is damaged is kept under another name, and what was kept before stays; one that cannot be written is an error that says so.
func TestSavingLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "profile.json")
	for i, content := range []string{"{", "["} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		rt := taught(t, path)
		if p := rt.Report().Profile; p.State != "refused" || p.Reason == "" {
			t.Errorf("%q: %+v", content, p)
		}
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
		if old, err := os.ReadFile(path + []string{".old", ".old.2"}[i]); err != nil || string(old) != content {
			t.Errorf("%q became %q, %v", content, old, err)
		}
	}
	rt := taught(t, filepath.Join(path, "below a file", "profile.json"))
	if err := rt.Close(); err == nil || !strings.Contains(err.Error(), "save what was learned") {
		t.Errorf("%v", err)
	}
}

// A profile of other libraries, fewer processors or another version serves somebody else and stays. What was learned is kept beside it, and found there again.
func TestForeignProfileStays(t *testing.T) {
	var version struct{ Schema int }
	empty, err := (&dispatch.Profile{Fingerprint: "another machine"}).Encode()
	if err == nil {
		err = json.Unmarshal(empty, &version)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{string(empty), fmt.Sprintf(`{"schema":%d}`, version.Schema+1)} {
		path := filepath.Join(t.TempDir(), "profile.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, state := range []string{"refused", "loaded"} {
			rt := taught(t, path)
			p := rt.Report().Profile
			if want := filepath.Join(filepath.Dir(path), "profile-"+p.Fingerprint+".json"); p.State != state || i == 1 && p.Path != want {
				t.Errorf("%d: %+v", i, p)
			}
			if err := rt.Close(); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != content {
				t.Errorf("%q became %q, %v", content, now, err)
			}
			if _, err := os.Stat(path + ".old"); err == nil {
				t.Error("it was put aside")
			}
		}
		// Once the file is of this machine it is the one.
		rt := open(t, WithoutNative())
		ours, err := (&dispatch.Profile{Fingerprint: rt.Report().Profile.Fingerprint}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, ours, 0o600); err != nil {
			t.Fatal(err)
		}
		if p := open(t, WithoutNative(), WithProfile(path)).Report().Profile; p.State != "loaded" || p.Path != path {
			t.Errorf("%+v", p)
		}
	}
}
