// SPDX-License-Identifier: Apache-2.0

// Package prometheus exposes what a runtime counts as metrics of Prometheus. It is a module of its own, so that programs that do not need it do not carry it:
//
//	prometheus.MustRegister(setunprometheus.NewCollector(rt))
//
// Every scrape reads [runtime.Runtime.Snapshot]; between scrapes nothing runs.
package prometheus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/setun-compute/setun/runtime"
)

// Source is what is collected from: a *runtime.Runtime.
type Source interface{ Snapshot() runtime.Snapshot }

// states are the values of the label "state" of setun_kernel_health.
var states = []string{"healthy", "suspect", "quarantined"}

type collector struct {
	source                                               Source
	calls, seconds, bytes, fallbacks, health             *prometheus.Desc
	inFlight, learned, dropped, spent, explored, learnOn *prometheus.Desc
}

// NewCollector returns a collector of a runtime's counters. To register several runtimes wrap the registerer with a label each (prometheus.WrapRegistererWith). It is safe for concurrent use.
//
//	setun_kernel_calls_total{op,kernel}          calls sent to a kernel
//	setun_kernel_seconds_total{op,kernel}        time in it; of short calls a sample is timed and stands for all
//	setun_kernel_bytes_total{op,kernel}          inputs and outputs of its successful calls
//	setun_kernel_fallbacks_total{op,kernel}      calls that it failed and another kernel answered or refused
//	setun_kernel_health{op,kernel,state}         1 for the state that it is in: healthy, suspect or quarantined
//	setun_calls_in_flight
//	setun_learning                               1 if the runtime learns from its calls
//	setun_learned_calls_total, setun_learning_dropped_total
//	setun_learning_seconds_total                 time spent learning
//	setun_exploration_seconds_total              what trying other kernels took beyond the best prediction
func NewCollector(source Source) prometheus.Collector {
	kernel := []string{"op", "kernel"}
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("setun_"+name, help, labels, nil)
	}
	return &collector{
		source:    source,
		calls:     d("kernel_calls_total", "Calls sent to a kernel.", kernel...),
		seconds:   d("kernel_seconds_total", "Time in a kernel. Of short calls a sample is timed and stands for all.", kernel...),
		bytes:     d("kernel_bytes_total", "Inputs and outputs of a kernel's successful calls.", kernel...),
		fallbacks: d("kernel_fallbacks_total", "Calls that a kernel failed and another one answered or refused.", kernel...),
		health:    d("kernel_health", "1 for the state that a kernel is in.", "op", "kernel", "state"),
		inFlight:  d("calls_in_flight", "Calls that run now."),
		learnOn:   d("learning", "1 if the runtime learns from its calls."),
		learned:   d("learned_calls_total", "Timed calls that were learned from."),
		dropped:   d("learning_dropped_total", "Timed calls that came too fast to be learned from."),
		spent:     d("learning_seconds_total", "Time spent learning."),
		explored:  d("exploration_seconds_total", "What trying other kernels took beyond the best prediction."),
	}
}

// Describe sends all descriptions.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.calls, c.seconds, c.bytes, c.fallbacks, c.health, c.inFlight, c.learnOn, c.learned, c.dropped, c.spent, c.explored} {
		out <- d
	}
}

// Collect reads a snapshot and sends it.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	send := func(d *prometheus.Desc, t prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, t, value, labels...)
	}
	is := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	for _, k := range s.Kernels {
		send(c.calls, prometheus.CounterValue, float64(k.Calls), k.Op, k.Kernel)
		send(c.seconds, prometheus.CounterValue, k.Time.Seconds(), k.Op, k.Kernel)
		send(c.bytes, prometheus.CounterValue, float64(k.Bytes), k.Op, k.Kernel)
		send(c.fallbacks, prometheus.CounterValue, float64(k.Fallbacks), k.Op, k.Kernel)
		for _, state := range states {
			send(c.health, prometheus.GaugeValue, is(k.Health == state), k.Op, k.Kernel, state)
		}
	}
	send(c.inFlight, prometheus.GaugeValue, float64(s.InFlight))
	send(c.learnOn, prometheus.GaugeValue, is(s.Learning.On))
	send(c.learned, prometheus.CounterValue, float64(s.Learning.Learned))
	send(c.dropped, prometheus.CounterValue, float64(s.Learning.Dropped))
	send(c.spent, prometheus.CounterValue, s.Learning.Spent.Seconds())
	send(c.explored, prometheus.CounterValue, s.Learning.Explored.Seconds())
}
