// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be a peer: with SETUN_BENCH_PEER it speaks the protocol instead of testing.
func TestMain(m *testing.M) {
	switch os.Getenv("SETUN_BENCH_PEER") {
	case "":
		os.Exit(m.Run())
	case "mute":
		fmt.Fprintln(os.Stderr, "trace\nModuleNotFoundError: No module named 'other'")
	default:
		fmt.Println("fake 1.0")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			switch word, _, _ := strings.Cut(in.Text(), " "); word {
			case "load":
				fmt.Println("ready")
			case "call":
				fmt.Println("call=12.5 inertia=3e2")
			case "end":
				os.Exit(0)
			default:
				fmt.Println("error no such request")
			}
		}
	}
}

func fake(t *testing.T, kind string) (*peer, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SETUN_BENCH_PEER="+kind)
	return start(cmd)
}

func TestPeer(t *testing.T) {
	p, err := fake(t, "speaks")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if p.greeting != "fake 1.0" {
		t.Errorf("greeting %q", p.greeting)
	}
	if err := p.load("/some/file", 3); err != nil {
		t.Error(err)
	}
	got, err := p.ask("call %d", 7)
	if diff := cmp.Diff(times{"call": 12.5, "inertia": 300}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := p.ask("dance"); !errors.Is(err, errPeer) || !strings.Contains(err.Error(), "no such request") {
		t.Errorf("an answer of error gives %v", err)
	}
	if _, err := p.ask("end"); !errors.Is(err, errPeer) {
		t.Errorf("an ended peer gives %v", err)
	}
}

func TestPeerWithoutGreeting(t *testing.T) {
	if _, err := fake(t, "mute"); !errors.Is(err, errPeer) || !strings.HasSuffix(err.Error(), "No module named 'other'") {
		t.Errorf("got %v, want the last line of its complaint", err)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "call", "=1", "call=", "call=fast", "call=NaN", "call=+Inf", "call=1 x"} {
		if got, err := parse(bad); !errors.Is(err, errPeer) {
			t.Errorf("parse(%q) = %v, %v", bad, got, err)
		}
	}
}

func TestPythons(t *testing.T) {
	t.Setenv("SETUN_BENCH_PYTHON", "mine")
	if got := pythons(""); got[0] != "mine" || len(got) != 3 {
		t.Error(got)
	}
	if got := pythons("given"); len(got) != 1 || got[0] != "given" {
		t.Error(got)
	}
}

func TestQuartiles(t *testing.T) {
	if got := quartiles([]float64{5, 1, 3, 2, 4}); got != (spread{Median: 3, Low: 2, High: 4}) {
		t.Error(got)
	}
	if got := quartiles([]float64{4, 2}); got != (spread{Median: 3, Low: 2.5, High: 3.5}) {
		t.Error(got)
	}
	if got := quartiles([]float64{7}); got != (spread{Median: 7, Low: 7, High: 7}) {
		t.Error(got)
	}
}

// The ratio is that of each turn, not that of the medians: here the machine slows down threefold for both.
func TestRatiosAreTakenTurnByTurn(t *testing.T) {
	if got := ratios([]float64{20, 60, 20}, []float64{10, 30, 10}); got == nil || *got != (spread{Median: 2, Low: 2, High: 2}) {
		t.Error(got)
	}
	for _, own := range [][]float64{nil, {1}, {1, 0, 1}, {1, -2, 1}} {
		if got := ratios([]float64{1, 2, 3}, own); got != nil {
			t.Errorf("ratios to %v = %v", own, *got)
		}
	}
}

func scripted(who string, v ...float64) *contender {
	i := -1
	return &contender{who: who, turn: func() (times, error) {
		if i++; i >= len(v) {
			return nil, errors.New("out of turns")
		}
		return times{figureCall: v[i]}, nil
	}}
}

func TestCompare(t *testing.T) {
	var dropped []string
	cs := compare([]*contender{scripted(ours, 99, 10, 20), scripted("weak", 1), scripted("other", 99, 30, 40)}, 2,
		func(int) bool { return true }, func(who string, err error) { dropped = append(dropped, who) })
	if diff := cmp.Diff([]string{"weak"}, dropped); diff != "" {
		t.Error(diff)
	}
	b := &bench{op: "op", shape: "1", figures: []figure{{figureCall, 300, "GB/s"}, {figureFit, 1, ""}}}
	want := []result{
		{Op: "op", Shape: "1", Figure: "call", Who: ours, Turns: 2, NS: spread{15, 12.5, 17.5}, Rate: 20, Unit: "GB/s"},
		{Op: "op", Shape: "1", Figure: "call", Who: "other", Turns: 2, NS: spread{35, 32.5, 37.5}, Rate: 300 / 35.0, Unit: "GB/s", Speed: &spread{2.5, 2.25, 2.75}},
	}
	if diff := cmp.Diff(want, summary(b, cs)); diff != "" {
		t.Error(diff)
	}
	if cs := compare([]*contender{scripted("one", 1, 2, 3, 4)}, 9, func(done int) bool { return done < 2 }, nil); len(cs[0].turns) != 2 {
		t.Errorf("%d turns after the budget of 2", len(cs[0].turns))
	}
}

func TestDiffer(t *testing.T) {
	found := func(who string, inertia float64) *contender {
		return &contender{who: who, less: sameWork, turns: []times{{figureInertia: inertia}}}
	}
	strict, own := found("strict", 1000), found("own", 1000)
	strict.less, own.own = 1e-6, true
	silent := &contender{who: "silent", turns: []times{{figureCall: 1}}}
	for _, c := range []struct {
		inertia float64
		other   *contender
		ok      bool
	}{
		{1000.5, found("lax", 1000), true}, {1002, found("lax", 1000), false}, {998, found("lax", 1000), false},
		{1000.0005, strict, true}, {999.5, strict, true}, {1000.002, strict, false},
		{1000, own, true}, {1000.0000001, own, false},
	} {
		if err := differ([]*contender{silent, found(ours, c.inertia), silent, c.other}); (err == nil) != c.ok {
			t.Errorf("%v beside %s: %v", c.inertia, c.other.who, err)
		}
	}
}

func TestChoose(t *testing.T) {
	quick, err := choose(cases(), "quick", regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	full, _ := choose(cases(), "full", regexp.MustCompile(""))
	if len(full) != len(cases()) || len(quick) == 0 || len(quick) >= len(full) {
		t.Errorf("%d quick, %d full of %d", len(quick), len(full), len(cases()))
	}
	one, err := choose(cases(), "full", regexp.MustCompile("^kmeans 60000x784x979$"))
	if err != nil || len(one) != 1 || one[0].values != 60_000*784 {
		t.Error(one, err)
	}
	for _, set := range []string{"quick", "other"} {
		if _, err := choose(cases(), set, regexp.MustCompile("nothing")); err == nil {
			t.Errorf("%s: no error for an empty choice", set)
		}
	}
}

func sample() *report {
	return &report{Machine: "a machine", Threads: 2, When: "now", Peers: []string{"FAISS 1"}, Missing: []string{"numpy: none"}, Results: []result{
		{Op: "kmeans", Shape: "10000x64x64", Figure: figureIteration, Who: ours, Note: "cpu/go", NS: spread{2e6, 1e6, 3e6}, Rate: 41, Unit: "GFLOP/s"},
		{Op: "kmeans", Shape: "10000x64x64", Figure: figureIteration, Who: "FAISS", NS: spread{4e6, 4e6, 4e6}, Rate: 20.5, Unit: "GFLOP/s", Speed: &spread{2, 1.5, 2.5}},
		{Op: "kmeans", Shape: "10000x64x64", Figure: figureUpdate, Who: "FAISS", NS: spread{-1, -2, 1}},
		{Op: "quantize", Shape: "1000000 group 128", Figure: figureCall, Who: ours, NS: spread{1e5, 1e5, 1e5}, Rate: 40, Unit: "GB/s"},
		{Op: "quantize", Shape: "1000000 group 128", Figure: figureCall, Who: "C loop", Ceiling: true, NS: spread{5e4, 5e4, 5e4}, Rate: 80, Unit: "GB/s", Speed: &spread{0.5, 0.5, 0.5}},
	}}
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	sample().markdown(&b)
	for _, want := range []string{
		"Machine: a machine. Threads of each contender: 2.", "- peer: FAISS 1\n", "- left out: numpy: none\n", "## quantize\n",
		"| 10000x64x64 | iteration | **setun** (cpu/go) | 2 (1 … 3) | 41 GFLOP/s |  |\n",
		"|  |  | FAISS | 4 (4 … 4) | 20.5 GFLOP/s | 2.00× (1.50 … 2.50) |\n",
		"|  | update | FAISS | within the noise |  |  |\n",
		"|  |  | *C loop* | 0.05 (0.05 … 0.05) | 80 GB/s | 0.50× (0.50 … 0.50) |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}

func TestSaveWritesTablesAndPlots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := errors.Join(sample().save(dir), sample().plots(dir)); err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]string{"results.md": "# Setun", "results.json": "{", "kmeans-ratio.png": "\x89PNG", "kmeans-ratio.svg": "<?xml",
		"flops.png": "\x89PNG", "flops.svg": "<?xml", "memory.png": "\x89PNG", "memory.svg": "<?xml"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(got), begin) {
			t.Errorf("%s: %v, begins with %q", name, err, got[:min(len(got), 8)])
		}
	}
}

func TestChartKeepsGroupsApart(t *testing.T) {
	c := sample().charts()
	if diff := cmp.Diff([]string{"kmeans\n10 k × 64 × 64"}, c[0].groups); diff != "" {
		t.Error(diff)
	}
	if got := c[0].bars["FAISS"]; len(got) != 1 || got[0] != 2 {
		t.Errorf("ratio bars %v", got)
	}
	if got := c[2]; got.groups[0] != "quantize\n1 M group 128" || got.bounds[0] != 80 || len(got.bars) != 1 {
		t.Errorf("memory chart %+v", got)
	}
}

// FuzzParse reads what another program answers.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "a=1 b=2.5e3", "a=NaN", "=1", "a=1 a=2", "a==1", "a=1e999", "a=0x1p-2\tb=\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		figures, err := parse(text)
		if (err == nil) != (len(figures) > 0) || err != nil && !errors.Is(err, errPeer) {
			t.Fatalf("%v, %v", figures, err)
		}
		for name, v := range figures {
			if name == "" || v-v != 0 || !strings.Contains(text, name+"=") {
				t.Fatalf("%v of %q", figures, text)
			}
		}
	})
}
