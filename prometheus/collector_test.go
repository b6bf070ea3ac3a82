// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/setun-compute/setun/runtime"
)

type snapshot runtime.Snapshot

func (s snapshot) Snapshot() runtime.Snapshot { return runtime.Snapshot(s) }

// TestEveryCounter compares the text of a scrape with a snapshot whose numbers are all different.
func TestEveryCounter(t *testing.T) {
	c := NewCollector(snapshot{
		Kernels:  []runtime.Metric{{Op: "norm2", Kernel: "simd_c/avx2", Calls: 3, Time: 4 * time.Second, Bytes: 5, Fallbacks: 6, Health: "suspect"}},
		Learning: runtime.Learning{On: true, Learned: 7, Dropped: 8, Spent: 9 * time.Second, Explored: 10 * time.Second},
		InFlight: 11,
	})
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP setun_calls_in_flight Calls that run now.
# TYPE setun_calls_in_flight gauge
setun_calls_in_flight 11
# HELP setun_exploration_seconds_total What trying other kernels took beyond the best prediction.
# TYPE setun_exploration_seconds_total counter
setun_exploration_seconds_total 10
# HELP setun_kernel_bytes_total Inputs and outputs of a kernel's successful calls.
# TYPE setun_kernel_bytes_total counter
setun_kernel_bytes_total{kernel="simd_c/avx2",op="norm2"} 5
# HELP setun_kernel_calls_total Calls sent to a kernel.
# TYPE setun_kernel_calls_total counter
setun_kernel_calls_total{kernel="simd_c/avx2",op="norm2"} 3
# HELP setun_kernel_fallbacks_total Calls that a kernel failed and another one answered or refused.
# TYPE setun_kernel_fallbacks_total counter
setun_kernel_fallbacks_total{kernel="simd_c/avx2",op="norm2"} 6
# HELP setun_kernel_health 1 for the state that a kernel is in.
# TYPE setun_kernel_health gauge
setun_kernel_health{kernel="simd_c/avx2",op="norm2",state="healthy"} 0
setun_kernel_health{kernel="simd_c/avx2",op="norm2",state="quarantined"} 0
setun_kernel_health{kernel="simd_c/avx2",op="norm2",state="suspect"} 1
# HELP setun_kernel_seconds_total Time in a kernel. Of short calls a sample is timed and stands for all.
# TYPE setun_kernel_seconds_total counter
setun_kernel_seconds_total{kernel="simd_c/avx2",op="norm2"} 4
# HELP setun_learned_calls_total Timed calls that were learned from.
# TYPE setun_learned_calls_total counter
setun_learned_calls_total 7
# HELP setun_learning 1 if the runtime learns from its calls.
# TYPE setun_learning gauge
setun_learning 1
# HELP setun_learning_dropped_total Timed calls that came too fast to be learned from.
# TYPE setun_learning_dropped_total counter
setun_learning_dropped_total 8
# HELP setun_learning_seconds_total Time spent learning.
# TYPE setun_learning_seconds_total counter
setun_learning_seconds_total 9
`)); err != nil {
		t.Error(err)
	}
}

// TestRuntime registers a real runtime, twice under labels, and scrapes it after a call.
func TestRuntime(t *testing.T) {
	rt, err := runtime.Open(runtime.WithoutSaving())
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"a", "b"} {
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"runtime": name}, registry).Register(NewCollector(rt)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rt.Norm2([]float32{3, 4}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "setun_kernel_calls_total" {
			continue
		}
		if n := len(f.GetMetric()); n != 2 || f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("one call by two names is %d metrics: %v", n, f)
		}
		return
	}
	t.Error("no setun_kernel_calls_total")
}
