// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	setun "github.com/setun-compute/setun/runtime"
)

// built compiles mine.c as its first lines say.
func built(t *testing.T, flags ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the command is one for Linux")
	}
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skipf("there is no C compiler: %v", err)
	}
	path := filepath.Join(t.TempDir(), "libsetun_mine.so")
	args := append([]string{"-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fvisibility=hidden", "-shared", "-fPIC", "-I", "../../native/include", "mine/mine.c", "-o", path, "-lm"}, flags...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(path, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

var options = []setun.Option{setun.WithProfile("none"), setun.WithoutSaving()}

// TestPlugin: the library of this folder is admitted, has the bits of pure Go, and is tried beside the other kernels.
func TestPlugin(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, built(t), options...); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{`mine 1\.0 is admitted: dot/plain, norm2/plain`, `dot +\d{4} cases against pure Go, 0 mismatches`, `norm2 +\d{4} cases against pure Go, 0 mismatches`, `1000000 values +\w+/\w+`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	source, err := os.ReadFile("mine/mine.c")
	if n := bytes.Count(source, []byte("\n")); err != nil || n >= 150 {
		t.Errorf("a backend takes %d lines: %v", n, err)
	}
}

// TestPluginThatIsWrong: with sums in another order the same source is not let in, since what the probe asks comes out otherwise; nor is a file that is no library.
func TestPluginThatIsWrong(t *testing.T) {
	state := t.TempDir() // where it is quarantined
	t.Setenv("SETUN_STATE", state)
	text := filepath.Join(t.TempDir(), "libsetun_text.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{built(t, "-DLANES=16"): "quarantined", text: "refused"} {
		var out bytes.Buffer
		if err := run(t.Context(), &out, path, options...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}
