// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls")
	h := Header{Fingerprint: "f", Machine: "m", Arms: map[string][]dispatch.Arm{"dot": {{Backend: "cpu", Kernel: "go"}, {Backend: "cpp", Kernel: "avx2x2", Threads: 2}}}}
	w, err := Create(path, h)
	if err != nil {
		t.Fatal(err)
	}
	beside := dispatch.Vector(backends.OpDot, 9)
	beside.Variant |= dispatch.Beside
	fast := dispatch.MatMul(2, 3, 4, 5)
	fast.Fast = true
	shapes := []dispatch.Shape{beside, fast, dispatch.KMeans(1000, 64, 100), dispatch.Clusters(100, 3), dispatch.Quantize(1000, quant.Options{Format: quant.Bits2, Group: 10}.WithDefaults(1000))}
	for i := range shapes {
		w.Add(NewCall(&shapes[i], "cpu/go", 5.5, float64(1+i)))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	h.Version = Version
	if d := cmp.Diff(h, got.Header); d != "" || got.Torn || len(got.Calls) != len(shapes) {
		t.Error(d, got)
	}
	for i, c := range got.Calls {
		if d := cmp.Diff(shapes[i], c.Shape()); d != "" || c.Nanos != 5.5 {
			t.Error(d, c)
		}
	}
	// Cut anywhere it is an error in the header, and a shorter trace after it.
	first := bytes.IndexByte(data, '\n') + 1
	for cut := range data {
		x, err := Read(bytes.NewReader(data[:cut]))
		if cut < first-1 && !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if cut >= first && (err != nil || len(x.Calls) != bytes.Count(data[first:cut], []byte("\n")) || x.Torn != (data[cut-1] != '\n')) {
			t.Fatalf("cut at %d: %+v, %v", cut, x, err)
		}
	}
}

func TestSeveralWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls")
	shape := dispatch.Vector(backends.OpDot, 9)
	for _, name := range []string{path, path + ".2", path + ".3"} {
		w, err := Create(path, Header{})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 100 {
					w.Add(NewCall(&shape, "cpu/go", 5, 1))
				}
			})
		}
		all.Wait()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if x, err := Read(f); err != nil || len(x.Calls) != 400 {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	if _, err := Create(filepath.Join(path, "below"), Header{}); err == nil {
		t.Error("a file below a file")
	}
}

func TestDamage(t *testing.T) {
	head := `{"setun_trace":1}` + "\n"
	for _, text := range []string{"", "x\n", "{}\n", `{"setun_trace":2}` + "\n", `{"setun_trace":1,"arms":{"add":[]}}` + "\n", `{"setun_trace":1,"arms":{"dot":[` + strings.Repeat("{},", 64) + `{}]}}` + "\n", strings.Repeat(" ", maxLine+1),
		head + "x\n", head + `{"op":"add"}` + "\n", head + `{"op":"dot","n":-1}` + "\n", head + `{"op":"dot","n":9223372036854775807}` + "\n", head + `{"op":"dot","ns":-1}` + "\n", head + `{"op":"dot","ns":1e300}` + "\n", head + `{"op":"dot","parts":1e10}` + "\n",
		head + `{"op":"dot","variant":300}` + "\n", head + fmt.Sprintf(`{"op":"dot","variant":%d}`, dispatch.Beside) + "\n"} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"setun_trace":1,"arms":{"dot":[{"Backend":"cpu","Kernel":"go"}]}}` + "\n" + `{"op":"dot","n":5,"kernel":"cpu/go","ns":5}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, c := range x.Calls {
			s := c.Shape()
			if s.Op == 0 || s.Work() < 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}

// A program that is killed leaves the header at once, and calls that are older than a second or so.
func TestKilledProgramLeavesATrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls")
	w, err := Create(path, Header{Machine: "m"})
	if err != nil {
		t.Fatal(err)
	}
	left := func() *Trace {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	if x := left(); x.Machine != "m" || len(x.Calls) != 0 {
		t.Errorf("%+v", x)
	}
	shape := dispatch.Vector(backends.OpDot, 9)
	w.Add(NewCall(&shape, "cpu/go", 5, 1))
	if x := left(); len(x.Calls) != 0 {
		t.Errorf("each call is written by itself: %+v", x)
	}
	w.last = w.last.Add(-2 * flushTime)
	w.Add(NewCall(&shape, "cpu/go", 5, 1))
	if x := left(); len(x.Calls) != 2 {
		t.Errorf("%+v", x)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// What is beyond the limit is left out, and the trace says so.
func TestLongTrace(t *testing.T) {
	text := `{"setun_trace":1}` + "\n" + strings.Repeat(`{"op":"dot","n":5}`+"\n", 3)
	for most, more := range map[int]bool{2: true, 3: false} {
		if x, err := read(strings.NewReader(text), most); err != nil || len(x.Calls) != most || x.More != more || x.Torn {
			t.Errorf("%d: %+v, %v", most, x, err)
		}
	}
}
