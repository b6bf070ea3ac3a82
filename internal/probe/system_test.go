// SPDX-License-Identifier: Apache-2.0

//go:build unix

package probe

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/machine"
	"github.com/setun-compute/setun/internal/plugin"
)

// A file that was written within its time and size, or that another one with the same took the place of, is another file.
func TestStamp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
			t.Fatal(err)
		}
	}
	if s := stamp(file); s != "" {
		t.Errorf("of no file: %q", s)
	}
	write(file, "one")
	before := stamp(file)
	if before == "" || stamp(file) != before {
		t.Errorf("%q, then %q", before, stamp(file))
	}
	time.Sleep(100 * time.Millisecond) // file systems count in ticks of the clock
	write(file, "two")
	written := stamp(file)
	if written == before {
		t.Errorf("the same after it was written: %s", before)
	}
	write(file+"2", "six")
	if err := os.Rename(file+"2", file); err != nil {
		t.Fatal(err)
	}
	if stamp(file) == written {
		t.Errorf("the same after it was replaced: %s", written)
	}
}

// What the child cannot say in a line, or what is no file, it does not say: macOS's loader names files that are in its cache alone.
func TestIsFile(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for _, name := range []string{"lib.so", "a b.so", "a\nb.so", "\xff.so"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil && name != "\xff.so" { // some systems have no such names
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{"lib.so": false, "./lib.so": false, "": false, "/nowhere/Accelerate": false, folder + "/lib.so": true, folder + "/a b.so": true, folder + "/a\nb.so": false, folder + "/\xff.so": false} {
		if isFile(path) != want {
			t.Errorf("%q: not %v", path, want)
		}
	}
}

func guard(t *testing.T) *Guard {
	t.Helper()
	return New(machine.Machine{}, Settings{Cores: 1, Folder: t.TempDir()})
}

// A name may be an absolute path, that of Accelerate on macOS, where no file has to be. That there is none is known from the loader alone.
func TestNameThatIsAPath(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("what the loader says then is not known here")
	}
	const name = "/nowhere/Accelerate.framework/Accelerate"
	g := guard(t)
	for _, helper := range []string{"", "/nowhere/helper"} { // the second time no process is started
		g.Helper = helper
		if _, _, state, err := g.AdmitSystem(name, true); state != plugin.Missing || !errors.Is(err, backends.ErrLibrary) || errors.Is(err, ErrNoProbe) {
			t.Errorf("helper %q: %s, %v", helper, state, err)
		}
	}
	if _, _, state, err := g.AdmitSystem(name, false); state != plugin.Refused || !errors.Is(err, backends.ErrLibrary) {
		t.Errorf("as a file: %s, %v", state, err)
	}
}

// slow is a gate behind which another file takes the place of the one that was tried.
type slow struct {
	*Guard
	then func()
}

func (s slow) AdmitSystem(name string, named bool) (string, plugin.Pass, plugin.State, error) {
	defer s.then()
	return s.Guard.AdmitSystem(name, named)
}

// What is loaded is what was tried.
func TestReplacedAfterItsTrial(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no compiler, and this is CI")
		}
		t.Skip("no cc: there is no BLAS to be tried")
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "libblas.so")
	compile := func(to, rogue string) {
		if out, err := exec.Command(cc, "-shared", "-fPIC", "-DROGUE="+rogue, "-o", to, "../../runtime/testdata/blas.c").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	compile(file, "GOOD")
	compile(file+".next", "CTOR_SEGV") // would end this process
	g := guard(t)
	b, tried := blas.Open(file, slow{g, func() {
		if err := os.Rename(file+".next", file); err != nil {
			t.Error(err)
		}
	}})
	if b != nil || len(tried) != 1 || tried[0].State != plugin.Refused || !errors.Is(tried[0].Err, admit.ErrUnsafe) {
		t.Errorf("%v, %+v", b, tried)
	}
	compile(file, "GOOD")
	if b, tried := blas.Open(file, slow{g, func() {}}); b == nil {
		t.Errorf("%+v", tried)
	}
}
