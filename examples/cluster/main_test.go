// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/npy"
	setun "github.com/setun-compute/setun/runtime"
)

// groups writes rows of dim values around k places to an npy file.
func groups(t *testing.T, k, rows, dim int) (path string, x []float32) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, uint64(k)))
	centres := make([]float64, k*dim)
	for i := range centres {
		centres[i] = 5 * r.NormFloat64()
	}
	x = make([]float32, rows*dim)
	for i := range x {
		x[i] = float32(centres[i/dim%k*dim+i%dim] + r.NormFloat64())
	}
	path = filepath.Join(t.TempDir(), "vectors.npy")
	if err := npy.WriteFile(path, x, rows, dim); err != nil {
		t.Fatal(err)
	}
	return path, x
}

// start runs the command.
func start(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

// contents lists a folder.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// payload returns what follows the header of an npy file.
func payload(t *testing.T, path string) (data []byte, shape []int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := npy.ParseHeader(data, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return data[h.Offset:], h.Shape
}

func TestEndToEnd(t *testing.T) {
	file, x := groups(t, 7, 5000, 6)
	out := filepath.Join(t.TempDir(), "new", "out")
	code, stdout, stderr := start("-k", "7", file, "-seed", "11", "-out", out, "-json")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	rt, err := setun.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	want, err := rt.KMeans(context.Background(), nil, x, 6, setun.KMeansOptions{K: 7, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}

	var labels, centroids bytes.Buffer
	if err := npy.Write(&labels, want.Labels, 5000); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "labels.npy")); err != nil || !bytes.Equal(got, labels.Bytes()) {
		t.Errorf("labels.npy has not the labels of KMeans (%v)", err)
	}
	if err := npy.Write(&centroids, want.Centroids, 7, 6); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "centroids.npy")); err != nil || !bytes.Equal(got, centroids.Bytes()) {
		t.Errorf("centroids.npy has not the centroids of KMeans (%v)", err)
	}

	var r, onDisk report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil || json.Unmarshal(text, &onDisk) != nil {
		t.Fatalf("report.json: %v, %s", err, text)
	}
	if r.String() != onDisk.String() {
		t.Errorf("report.json differs from the output:\n%v\n%v", onDisk, r)
	}
	if r.Inertia != want.Inertia || r.Iterations != want.Iterations || r.Converged != want.Converged || r.K != 7 || r.Rows != 5000 || r.Dim != 6 || r.Type != "float32" {
		t.Errorf("report %+v of %v iterations, inertia %v", r, want.Iterations, want.Inertia)
	}
	in := 0
	for _, h := range r.Sizes.Histogram {
		in += h.Clusters
	}
	if in != 7 || r.Sizes.Min != slices.Min(want.Counts) || r.Sizes.Max != slices.Max(want.Counts) || len(r.Kernels) == 0 {
		t.Errorf("sizes %+v of %v, kernels %v", r.Sizes, want.Counts, r.Kernels)
	}

	f, err := os.Open(filepath.Join(out, "picture.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, err := png.Decode(f); err != nil || p.Bounds().Dx() != 1350 || p.Bounds().Dy() != 1080 {
		t.Errorf("picture: %v", err)
	}
	names, progress := contents(t, out), strings.Count(stderr, "labels changed")
	if len(names) != len(outputs()) || progress != want.Iterations || strings.ContainsRune(stderr, '\r') {
		t.Errorf("folder has %v; progress:\n%s", names, stderr)
	}
	if left := contents(t, filepath.Dir(out)); len(left) != 1 {
		t.Errorf("left beside the folder: %v", left)
	}
}

func TestText(t *testing.T) {
	file, _ := groups(t, 3, 300, 2)
	code, stdout, stderr := start(file, "-k=3", "-out", filepath.Join(t.TempDir(), "out"), "-quiet")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{"300 rows of 2 values (float32, ", " in 3 clusters\n", "inertia  ", ", converged\n", "sizes  ", "kernel      kmeans on ", " GFLOP/s", "labels.npy, centroids.npy, picture.png, report.json\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, stdout)
		}
	}
}

// Other types, one column, one point many times and one cluster a row are clustered and drawn as well.
func TestUnusualInput(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.npy")
	out := filepath.Join(dir, "out")
	for name, c := range map[string]struct {
		values      []float64
		rows, dim   int
		k, iterates string
	}{
		"one column":     {[]float64{1, 2, 10, 11, 12}, 5, 1, "2", "9"},
		"one row":        {[]float64{1, 2, 3}, 1, 3, "1", "1"},
		"the same point": {make([]float64, 40), 10, 4, "3", "2"},
		"k = rows":       {[]float64{1, 2, 3, 4, 5, 7}, 3, 2, "3", "5"},
	} {
		if err := npy.WriteFile(file, c.values, c.rows, c.dim); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := start(file, "-k", c.k, "-iterations", c.iterates, "-out", out, "-force"); code != 0 {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
		if data, shape := payload(t, filepath.Join(out, "labels.npy")); len(data) != 4*c.rows || !slices.Equal(shape, []int{c.rows}) {
			t.Errorf("%s: labels of shape %v", name, shape)
		}
	}
}

func TestExistingResults(t *testing.T) {
	file, _ := groups(t, 3, 300, 2)
	out := t.TempDir() // there, with a file of someone else's
	mine := filepath.Join(out, "notes.txt")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := start(file, "-k", "3", "-out", out); code != 0 {
		t.Fatalf("a folder without results: exit code %d: %s", code, stderr)
	}
	before, _ := payload(t, filepath.Join(out, "centroids.npy"))
	code, stdout, stderr := start(file, "-k", "2", "-out", out)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "has a labels.npy already; name another folder, or replace it with -force") {
		t.Errorf("results were there: exit code %d: %s", code, stderr)
	}
	if after, _ := payload(t, filepath.Join(out, "centroids.npy")); !bytes.Equal(before, after) {
		t.Error("results were replaced without -force")
	}
	if code, _, stderr = start(file, "-k", "2", "-out", out, "-force"); code != 0 {
		t.Errorf("-force: exit code %d: %s", code, stderr)
	}
	if _, shape := payload(t, filepath.Join(out, "centroids.npy")); shape[0] != 2 {
		t.Errorf("-force left %v centroids", shape)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" || len(contents(t, out)) != 1+len(outputs()) {
		t.Errorf("%q, %v; the folder has %v", text, err, contents(t, out))
	}
	if code, _, stderr = start(file, "-k", "2", "-out", mine); code != 1 || !strings.Contains(stderr, "is not a folder") {
		t.Errorf("a file for a folder: exit code %d: %s", code, stderr)
	}
}

// stopper ends a context when a text is written.
type stopper struct {
	bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (s *stopper) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.text)) {
		s.cancel()
	}
	return s.Buffer.Write(p)
}

func TestInterrupt(t *testing.T) {
	file, _ := groups(t, 50, 20_000, 8)
	for _, at := range []string{"opening", "starting centroids", "iteration 2:", "drawing"} {
		parent := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		stderr := &stopper{text: at, cancel: cancel}
		var stdout bytes.Buffer
		code := run(ctx, []string{file, "-k", "40", "-out", filepath.Join(parent, "out")}, &stdout, stderr)
		if code != exitInterrupted || stdout.Len() > 0 || !strings.HasSuffix(stderr.String(), "cluster: interrupted, nothing was written\n") {
			t.Errorf("at %q: exit code %d, %q, %s", at, code, stdout.String(), stderr.String())
		}
		if strings.Contains(stderr.String(), "iteration 3:") && at != "drawing" {
			t.Errorf("at %q: it went on:\n%s", at, stderr.String())
		}
		if left := contents(t, parent); len(left) > 0 {
			t.Errorf("at %q: left behind: %v", at, left)
		}
	}
}

func TestDamagedInput(t *testing.T) {
	file, x := groups(t, 3, 300, 2)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save := func(values []float32, shape ...int) {
		if err := npy.WriteFile(file, values, shape...); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make func()
		says string
	}{
		"cut":        {func() { write(whole[:len(whole)-7]) }, "byte 128: shape (300, 2) of 4 bytes each takes 2400 bytes, the file ends after 2393: not a valid npy file"},
		"text":       {func() { write([]byte("a,b\n1,2\n")) }, "byte 0: it does not begin with the magic string of npy: not a valid npy file"},
		"integers":   {func() { write(bytes.Replace(whole, []byte("<f4"), []byte("<i4"), 1)) }, `descr is "<i4"; float32, float64 and float16 are read`},
		"vector":     {func() { save(x, len(x)) }, "the shape is (600,); a matrix with a row for each point is needed"},
		"no rows":    {func() { save(nil, 0, 4) }, "there are no points: invalid argument"},
		"no columns": {func() { save(nil, 4, 0) }, "dimension = 0 is not positive: invalid argument"},
		"few rows":   {func() { save(x[:4], 2, 2) }, "k = 3 exceeds 2 points: invalid argument"},
		"infinity":   {func() { write(append(whole[:len(whole)-4:len(whole)-4], 0, 0, 0x80, 0x7f)) }, "row 299, column 1 = +Inf: not a finite number"},
		"not there":  {func() { os.Remove(file) }, "open "},
	} {
		c.make()
		parent := t.TempDir()
		code, stdout, stderr := start(file, "-k", "3", "-quiet", "-out", filepath.Join(parent, "out"))
		if code != 1 || stdout != "" || !strings.Contains(stderr, file) || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit code %d, %q, %s; want 1 and %q", name, code, stdout, stderr, c.says)
		}
		if left := contents(t, parent); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestUsage(t *testing.T) {
	for args, says := range map[string]string{
		"":                               "0 files given",
		"-k 3 -out o":                    "0 files given",
		"a b -k 3 -out o":                "2 files given",
		"a -k 3":                         "-out is needed",
		"a -out o":                       "-k must be given",
		"a -k 0 -out o":                  "-k must be given",
		"a -k x -out o":                  "invalid value",
		"a -k 3 -suggest -out o":         "exclude each other",
		"a -k 3 -out o -iterations 0":    "-iterations 0",
		"a -k 3 -out o -tol NaN":         "-tol NaN",
		"a -k 3 -out o -tol=-1":          "-tol -1",
		"a -k 3 -out o -cluster-harder":  "not defined",
		"-seed -1 a -k 3 -out o":         "invalid value",
		"a -suggest -k=0 -out somewhere": "exclude each other",
	} {
		code, stdout, stderr := start(strings.Fields(args)...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit code %d, %q, %s; want %q", args, code, stdout, stderr, says)
		}
	}
	if code, _, stderr := start("-h"); code != 0 || !strings.Contains(stderr, "usage: cluster [flags] vectors.npy") || !strings.Contains(stderr, "-seed") {
		t.Errorf("-h: exit code %d, %s", code, stderr)
	}
}

// FuzzParse reads command lines, an argument a line.
func FuzzParse(f *testing.F) {
	for _, args := range []string{"v.npy -k 3 -out d", "-suggest v.npy -out d -json", "-k 0 v.npy -out d", "-k 2 -tol NaN v.npy -out d", "-k 2 -tol Inf v.npy -out d", "-seed 18446744073709551615 -k 0x7fffffffffffffff -iterations 0b1 -out= v", "-h", "--"} {
		f.Add(strings.ReplaceAll(args, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parse(strings.Split(text, "\n"), io.Discard)
		if err != nil && (o != nil || err.Error() == "") || err == nil && (o.out == "" || o.k < 1 != o.suggest || o.iterations < 1 || !(o.tol >= 0)) {
			t.Fatalf("%q: %+v, %v", text, o, err)
		}
	})
}
