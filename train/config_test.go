// SPDX-License-Identifier: Apache-2.0

package train

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPresetsAreRight(t *testing.T) {
	for _, name := range Presets() {
		c, err := Preset(name)
		if err != nil || c.Check() != nil {
			t.Errorf("%s: %v, %v", name, err, c.Check())
		}
	}
	if _, err := Preset("huge"); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "shakespeare") {
		t.Errorf("%v; want the presets that there are", err)
	}
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte(`{"width": 256, "data": "x.txt"}`), Default())
	if want := Default(); err != nil || c.Width != 256 || c.Data != "x.txt" || c.Heads != want.Heads {
		t.Errorf("%+v, %v", c, err)
	}
	for text, says := range map[string]string{
		`{"widht": 256}`:            `unknown field "widht"`,
		`{"width": 256} {}`:         "something follows",
		`{"width": "256"}`:          "width",
		`{"width": 0}`:              "width = 0 is not within 1 … 65536",
		`{"width": 130}`:            "width = 130 is not a multiple of the 4 heads",
		`{"rule": "best"}`:          `rule = "best" is none of absmean, least-squares`,
		`{"learning_rate": -1}`:     "learning_rate = -1",
		`{"min_rate": 0.5}`:         "min_rate = 0.5 is above",
		`{"start": 0.9,"ramp":0.2}`: "start + ramp",
		`{"clusters": 4}`:           "need a radius",
		`{"curriculum": true}`:      "needs data_clusters",
		`{"compress": "zip"}`:       `compress = "zip" is none of ternary, ternary-row`,
		`{"ranks": -1}`:             "ranks = -1 is not within",
		`{"data": ""}`:              "data is empty",
		`[]`:                        "wrong configuration",
		``:                          "wrong configuration",
	} {
		if got, err := Parse([]byte(text), Default()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v; want %q", text, got, err, says)
		}
	}
	c = Default()
	c.Clip = math.NaN()
	if err := c.Check(); !errors.Is(err, ErrConfig) {
		t.Errorf("NaN: %v", err)
	}
}

func TestDifferences(t *testing.T) {
	a, b := Default(), Default()
	b.Width, b.Steps, b.Tied = 256, 5, true
	if got, want := a.Differences(b), []string{"width: 128, 256", "tied: false, true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.stn")
	c := &checkpoint{config: Default(), step: 7, floats: map[string][]float32{"param/a": {1, float32(math.Copysign(0, -1)), 3}, "moment/a": {4}}, state: map[string]string{"aux": `{"x":1}`}}
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	got, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.step != 7 || got.config != c.config || got.state["aux"] != c.state["aux"] || len(got.floats) != 2 {
		t.Errorf("%+v", got)
	}
	dst := make([]float32, 3)
	if err := got.take("param/a", dst); err != nil || !slices.Equal(dst, c.floats["param/a"]) || !math.Signbit(float64(dst[1])) {
		t.Errorf("%v, %v", dst, err)
	}
	for _, name := range []string{"param/b", "moment/a"} {
		if err := got.take(name, dst); !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
