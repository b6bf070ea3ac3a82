// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/selftest"
)

const nonce = "0123456789abcdef0123456789abcdef"

// told is a spec as Guard writes it.
func told() spec {
	return spec{Revision: revision, Parent: 7, Nonce: nonce, Library: 3, Result: 4, Name: "simd_c", Path: "/lib.so", Cores: 2, Seconds: 20}
}

func TestParse(t *testing.T) {
	write := func(change func(s *spec)) string {
		s := told()
		change(&s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good := write(func(*spec) {})
	if s, err := parse(good, 7); err != nil || s.Library != 3 || s.Name != "simd_c" {
		t.Errorf("%+v, %v", s, err)
	}
	for name, text := range map[string]string{
		"junk": "1", "nothing": "{}", "list": "[]", "torn": good[:len(good)-1], "twice": good + good, "unknown field": strings.Replace(good, `"cores"`, `"threads"`, 1), "long": good + strings.Repeat(" ", 70_000),
		"revision": write(func(s *spec) { s.Revision++ }), "parent": write(func(s *spec) { s.Parent++ }), "nonce": write(func(s *spec) { s.Nonce = "" }), "descriptor": write(func(s *spec) { s.Result = 0 }),
		"library": write(func(s *spec) { s.Library = -1 }), "neither": write(func(s *spec) { s.Library, s.Path = 0, "" }), "cores": write(func(s *spec) { s.Cores = 0 }), "seconds": write(func(s *spec) { s.Seconds = 0 }),
	} {
		if _, err := parse(text, 7); !errors.Is(err, errSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// output is what a child writes that went well.
func output(t testing.TB) string {
	t.Helper()
	line, err := json.Marshal(result{Nonce: nonce, Kind: fit, Kernels: 3})
	if err != nil {
		t.Fatal(err)
	}
	return hello(nonce) + "\nat loading it\nat dot/avx2\n" + string(line) + "\n"
}

// TestReadTorn cuts what a child writes at every byte: only the whole is a result, and as far as it got is known.
func TestReadTorn(t *testing.T) {
	text := output(t)
	for n := range len(text) + 1 {
		var o outcome
		o.read(nonce, []byte(text[:n]))
		switch {
		case n == len(text):
			if o.died != "" || o.absent || o.Kind != fit || o.Kernels != 3 || o.at != "dot/avx2" {
				t.Errorf("whole: %+v", o)
			}
		case o.died == "" || o.absent != (n < len(hello(nonce))+1):
			t.Errorf("cut at %d: %+v", n, o)
		case strings.Contains(text[:n], "avx2\n") && o.at != "dot/avx2":
			t.Errorf("cut at %d: it was at %q", n, o.at)
		}
	}
}

func TestReadGarbage(t *testing.T) {
	good := output(t)
	for name, text := range map[string]string{
		"before": "x" + good, "among": strings.Replace(good, "at dot", "xx dot", 1), "behind": good + "x", "a line behind": good + "x\n", "another nonce": strings.ReplaceAll(good, `"nonce":"0`, `"nonce":"1`),
		"kind": strings.Replace(good, `"fit"`, `"fine"`, 1), "long step": strings.Replace(good, "loading it", strings.Repeat("x", 300), 1), "NUL": strings.Replace(good, "{", "\x00", 1), "twice": good + good,
	} {
		var o outcome
		if o.read(nonce, []byte(text)); o.died == "" {
			t.Errorf("%s: %+v", name, o)
		}
	}
	// How it ended is known already, and more telling.
	o := outcome{died: "was ended by SIGKILL"}
	if o.read(nonce, []byte(good[:60])); o.died != "was ended by SIGKILL" || o.absent {
		t.Errorf("%+v", o)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(output(f)))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o outcome
		o.read(nonce, data)
		if o.died == "" && (o.Kind == "" || o.Nonce != nonce || !strings.HasPrefix(string(data), hello(nonce)+"\n") || !strings.HasSuffix(string(data), "\n")) {
			t.Errorf("taken for a result: %q", data)
		}
	})
}

// FuzzSpec gives a child what it might be told by anybody.
func FuzzSpec(f *testing.F) {
	text, err := json.Marshal(told())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(text), string(text) + "{}", "null", `{"revision":1,"parent":7}`, strings.Replace(string(text), `"cores":2`, `"cores":-1,"devices":[-9,1e9]`, 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(text, 7)
		switch {
		case err != nil && !errors.Is(err, errSpec):
			t.Errorf("an error without a sentinel: %v", err)
		case err == nil && (s.Parent != 7 || s.Revision != revision || len(s.Nonce) != nonceSize || s.Result < 1 || s.Library < 0 || s.Cores < 1 || s.Seconds < 1 || s.Library == 0 && s.Path == "" && s.System == ""):
			t.Errorf("taken: %+v", s)
		}
	})
}

// FuzzTelling makes one line of what a child has said.
func FuzzTelling(f *testing.F) {
	for _, s := range []string{"", "one\ntwo\n\n", "what(): bad\nSIGABRT: abort\nPC=0x1\n", "\xff\x00SIG: \n", strings.Repeat("ü", 300)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		if line := telling(said); len(line) > 604 || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("%q", line)
		}
	})
}

// The child gets what decides how a library is loaded, and nothing that decides what it starts.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "SETUN_BACKEND_PATH", "SETUN_STATE", "SETUN_PROBE_HELPER", "SECRET", "GODEBUG", "OMP_NUM_THREADS"} {
		t.Setenv(name, "")
	}
	has := func(s *spec, name string) bool {
		return slices.ContainsFunc(environment("s", s), func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	for name, want := range map[string][3]bool{"LD_PRELOAD": {true, true, true}, "CUDA_VISIBLE_DEVICES": {1: true}, "HOME": {1: os.Getenv("HOME") != ""}, "OMP_NUM_THREADS": {2: true}, ChildVariable: {true, true, true}, "GOTRACEBACK": {true, true, true},
		"PATH": {}, "SETUN_BACKEND_PATH": {}, "SETUN_STATE": {}, "SETUN_PROBE_HELPER": {}, "SECRET": {}, "GODEBUG": {}} {
		if got := [3]bool{has(&spec{Name: "simd_c"}, name), has(&spec{Name: cudaName}, name), has(&spec{System: "libopenblas.so.0"}, name)}; got != want {
			t.Errorf("%s: %v, wanted %v", name, got, want)
		}
	}
}

// Nothing leads the child's loader to the working directory, which others may be able to write.
func TestEnvironmentHasNoRelativePaths(t *testing.T) {
	for name, values := range map[string]map[string]string{
		"LD_LIBRARY_PATH":       {"": "", ":/x": "/x", "/x:": "/x", "/x::/y": "/x:/y", "lib:./lib:../x:.:$ORIGIN:/x": "/x", "/x;;lib;/y": "/x:/y", "/a b:/c": "/a b:/c"},
		"DYLD_LIBRARY_PATH":     {":/x;y": "/x;y", "lib": ""},
		"LD_PRELOAD":            {"libasan.so.8 ./a.so b/c.so:/d.so": "libasan.so.8:/d.so"},
		"DYLD_INSERT_LIBRARIES": {"a/b.dylib:/a b.dylib": "/a b.dylib"},
		"ASAN_OPTIONS":          {"a=b:./c d": "a=b:./c d"},
	} {
		for value, want := range values {
			t.Setenv(name, value)
			if list := environment("s", &spec{Name: "simd_c"}); !slices.Contains(list, name+"="+want) {
				t.Errorf("%s=%q: %q, wanted %q", name, value, list, want)
			}
		}
	}
}

func TestTelling(t *testing.T) {
	for said, want := range map[string]string{
		"":                       "",
		"\n\n":                   "",
		"one\ntwo\n\n":           "two",
		"x\x1b[2J\xff\n":         "x [2J",
		"SIGABRT: abort\nPC=0x1": "SIGABRT: abort",
		"what(): bad\nSIGABRT: abort\nPC=0x1\nrax 0x0\n":                                "what(): bad; SIGABRT: abort",
		strings.Repeat("y", 5000):                                                       strings.Repeat("y", 200),
		"=====\nWARNING: ThreadSanitizer: data race (pid=7)\n  Read of size 4\n=====\n": "WARNING: ThreadSanitizer: data race (pid=7)",
		"x: cannot allocate 9 bytes\n#1 pthread_create\nx: giving up\nSIGABRT: abort\n": "x: cannot allocate 9 bytes; x: giving up; SIGABRT: abort",
		"terminate called\n  what():  std::bad_alloc\nSIGABRT: abort\nPC=0x1\n":         "what(): std::bad_alloc; SIGABRT: abort",
		"WARNING: ThreadSanitizer: data race (pid=7)\n  #0 pthread_create x\n":          "WARNING: ThreadSanitizer: data race (pid=7)",
		"a.c:1:2: runtime error: signed integer overflow\n    #0 in f a.c:1\n":          "a.c:1:2: runtime error: signed integer overflow",
	} {
		if got := telling([]byte(said)); got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
}

func TestCollect(t *testing.T) {
	for _, n := range []int{0, 10, 100, 101, 1 << 20} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		full := make(chan struct{})
		c := collect(r, 100, func() { close(full) })
		go func() {
			defer w.Close()
			for left := n; left > 0; left -= 4096 {
				if _, err := w.Write(make([]byte, min(left, 4096))); err != nil {
					return // nobody reads on
				}
			}
		}()
		if n > 100 {
			<-full
		}
		if data, excess := c.take(); len(data) != min(n, 100) || excess != (n > 100) {
			t.Errorf("%d bytes: %d, %v", n, len(data), excess)
		}
	}
}

func TestChosen(t *testing.T) {
	for _, c := range []struct {
		ordinals []int
		n        int
		want     []int
	}{{[]int{0}, 2, []int{0}}, {[]int{-1}, 3, []int{0, 1, 2}}, {[]int{2, 0, 2}, 3, []int{0, 2}}, {[]int{5}, 2, nil}, {[]int{0, -1}, 0, nil}} {
		if got := chosen(c.ordinals, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%v of %d: %v", c.ordinals, c.n, got)
		}
	}
}

// What a runtime uses of a library is tested, and nothing else.
func TestUsed(t *testing.T) {
	kernel := func(name string, threads int) backends.Kernel {
		return backends.Kernel{Op: backends.OpDot, Name: name, Threads: threads}
	}
	simd := []backends.Kernel{kernel("avx2", 1), kernel("sse42", 1), kernel("scalar", 1)}
	threaded := []backends.Kernel{kernel("avx2x1", 1), kernel("avx2x2", 2), kernel("avx2x4", 4), kernel("avx2x16", 16), kernel("sse42x2", 2)}
	device := []backends.Kernel{{Op: backends.OpDot, Name: "sm80", Threads: 1, Memory: 1}, kernel("host", 16)}
	for _, c := range []struct {
		s    spec
		all  []backends.Kernel
		want string
	}{
		{spec{Name: "simd_c", Cores: 4}, simd, "avx2 sse42"},
		{spec{Name: "simd_c", Cores: 4, Level: "scalar"}, simd, "scalar"},
		{spec{Name: "simd_c", Cores: 4, Others: true}, simd, "avx2 sse42 scalar"},
		{spec{Name: "cpp", Cores: 4}, threaded, "avx2x2 avx2x4"},
		{spec{Name: "cpp", Cores: 1}, threaded, ""},
		{spec{Name: "cpp", Cores: 4, Level: "sse42"}, threaded, "sse42x2"},
		{spec{Name: "cpp", Cores: 4, Others: true}, threaded, "avx2x1 avx2x2 avx2x4 sse42x2"},
		{spec{Name: "cuda", Cores: 4}, device, "sm80"},
	} {
		var names []string
		for _, k := range c.s.used(c.all) {
			names = append(names, k.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: %q, wanted %q", c.s, got, c.want)
		}
	}
}

// No op is forgotten because very many kernels of another one are wrong.
func TestWrongKernels(t *testing.T) {
	var r result
	for range 2 { // devices
		many := slices.Repeat([]selftest.Failure{{Op: "dot", Kernel: "a"}, {Op: "dot", Kernel: "b"}}, 1000)
		r.wrong(append(many, selftest.Failure{Op: "norm2"}))
	}
	if len(r.Failures) != 2 || r.Failures[0].Kernel != "a" || r.Failures[1].Op != "norm2" {
		t.Errorf("%+v", r.Failures)
	}
}

// A verdict counts for those kernels alone that were tested for it.
func TestScope(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []Settings{{Cores: 2}, {Cores: 3}, {Cores: 2, Level: "avx2"}, {Cores: 2, Level: "sse42"}} {
		g := Guard{Settings: s}
		seen[g.scope(plugin.Candidate{Name: "simd_c"})] = true
		seen[g.scope(plugin.Candidate{Name: "simd_c", Others: true})] = true
	}
	if len(seen) != 6 { // of others all is used, whatever the level
		t.Errorf("%v", seen)
	}
}

// BenchmarkNoChild is what every program pays that uses Setun: the look at the environment.
func BenchmarkNoChild(b *testing.B) {
	for b.Loop() {
		if os.Getenv(ChildVariable) != "" {
			b.Fatal("this is a child")
		}
	}
}
