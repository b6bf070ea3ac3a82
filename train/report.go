// SPDX-License-Identifier: Apache-2.0

package train

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
)

//go:embed report.html
var reportPage string

// Summary is what a run came to.
type Summary struct {
	Config     Config      `json:"config"`
	Parameters int         `json:"parameters"`
	Ternary    int         `json:"ternary_parameters"`
	Step       int         `json:"step"`
	Loss       float64     `json:"loss"`            // of the last step, averaged over the last 100
	Validation float64     `json:"validation_loss"` // nats a token, at the end
	Best       float64     `json:"best_validation_loss"`
	Seconds    float64     `json:"seconds"`
	Tokens     int64       `json:"tokens"`
	Runtime    float64     `json:"runtime_share"` // of the time, in ops of the runtime
	Kernels    []KernelUse `json:"kernels"`       // those that took longest first
	Sample     string      `json:"sample,omitempty"`

	WireBytes int64   `json:"wire_bytes,omitempty"`       // that each process sent in a step, on average, evaluations included
	WireTotal int64   `json:"wire_total_bytes,omitempty"` // that all sent, checkpoints included, since they were started
	WireRatio float64 `json:"wire_ratio,omitempty"`       // what summing float32 gradients in a ring would have sent, to that

	Model *ModelFile       `json:"model,omitempty"` // of the folder; nil without one, and while layers are not all ternary
	Order []LayerPrecision `json:"order,omitempty"` // in which layers became ternary, when it was measured
}

// KernelUse is how much of a run a kernel carried.
type KernelUse struct {
	Op      string  `json:"op"`
	Kernel  string  `json:"kernel"`
	Calls   int64   `json:"calls"`
	Seconds float64 `json:"seconds"`
}

// WriteReport writes a page that needs nothing else: curves, the configuration, which kernels carried the work, and a sample.
func WriteReport(w io.Writer, s Summary, records []Record) error {
	t, err := template.New("report").Funcs(template.FuncMap{"two": func(v float64) string { return fmt.Sprintf("%.2f", v) }, "four": func(v float64) string { return fmt.Sprintf("%.4f", v) },
		"percent": func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }, "si": number, "count": func(n int) string { return number(float64(n)) },
		"size": func(n int64) string { return number(float64(n)) + "B" }}).Parse(reportPage)
	if err != nil {
		return err
	}
	config, err := json.MarshalIndent(s.Config, "", "  ")
	if err != nil {
		return err
	}
	pictures := []template.HTML{}
	for _, c := range charts(records) {
		pictures = append(pictures, template.HTML("<figure><figcaption>"+template.HTMLEscapeString(c.title)+"</figcaption>")+c.svg()+"</figure>")
	}
	return t.Execute(w, struct {
		Summary
		Settings string
		Pictures []template.HTML
	}{s, string(config), pictures})
}

// charts are the pictures of a run.
func charts(records []Record) []chart {
	n := len(records)
	column := func(f func(r *Record) float64) []float64 {
		v := make([]float64, n)
		for i := range records {
			v[i] = f(&records[i])
		}
		return v
	}
	gap := func(v float64) float64 { // what was not measured at a step
		if v == 0 {
			return math.NaN()
		}
		return v
	}
	step := column(func(r *Record) float64 { return float64(r.Step) })
	loss := column(func(r *Record) float64 { return r.Loss })
	var at, validation, decided, rateFactor, radiusFactor []float64
	for i := range records {
		if r := &records[i]; r.Validation > 0 {
			at, validation = append(at, float64(r.Step)), append(validation, r.Validation)
		}
		if r := &records[i]; r.Aux != nil {
			decided, rateFactor, radiusFactor = append(decided, float64(r.Step)), append(rateFactor, r.Aux.RateFactor), append(radiusFactor, r.Aux.RadiusFactor)
		}
	}
	list := []chart{
		{title: "Loss, nats a token", curves: []curve{{"batch", "faint", step, loss, false}, {"batch, averaged over 50 steps", "first", step, smooth(loss, 50), false}, {"validation", "second", at, validation, true}}},
		{title: "Learning rate", zero: true, curves: []curve{{"rate", "first", step, column(func(r *Record) float64 { return r.Rate }), false}}},
		{title: "Share of ternary codes that change with a step", zero: true, curves: []curve{{"flips", "first", step, column(func(r *Record) float64 { return r.Flips }), false}, {"how ternary the weights are", "faint", step, column(func(r *Record) float64 { return r.Mix * maxFlips(records) }), false}}},
		{title: "Norms", zero: true, curves: []curve{{"step", "first", step, column(func(r *Record) float64 { return r.Moved }), false}, {"trust radius", "second", step, column(func(r *Record) float64 { return gap(r.Radius) }), false}}},
		{title: "Tokens a second", zero: true, curves: []curve{{"tokens/s", "first", step, column(func(r *Record) float64 { return r.TokensPerSecond }), false}}},
	}
	if len(decided) > 0 {
		list = append(list, chart{title: "Auxiliary network: factors", curves: []curve{{"rate", "first", decided, rateFactor, false}, {"radius", "second", decided, radiusFactor, false}}})
	}
	return list
}

// maxFlips is the greatest share of flips, 1 without any.
func maxFlips(records []Record) float64 {
	most := 0.0
	for i := range records {
		most = max(most, records[i].Flips)
	}
	if most == 0 {
		return 1
	}
	return most
}
