// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/backends/cpu"
)

// rough is pure Go that says its k-means is fast, and gives some rows another label.
type rough struct {
	backends.Unsupported
	every int // so manieth; 0: none
}

func (*rough) Name() string { return "rough" }
func (*rough) Close() error { return nil }
func (*rough) Kernels() []backends.Kernel {
	return []backends.Kernel{{Op: backends.OpKMeans, Name: "rough", Fast: true}}
}

func (r *rough) KMeans(ctx context.Context, k backends.Kernel, a *backends.KMeans) error {
	err := cpu.Backend{}.KMeans(ctx, k, a)
	for i := 0; r.every > 0 && i < a.N; i += r.every {
		a.Counts[a.Labels[i]]--
		a.Labels[i] = (a.Labels[i] + 1) % int32(a.K)
		a.Counts[a.Labels[i]]++
	}
	return err
}

// Labels within the bound pass, and few that are not are noticed.
func TestFastKMeansIsBounded(t *testing.T) {
	for _, every := range []int{0, 150} {
		r, err := conform.Verify(t.Context(), conform.Arms(&rough{every: every}), conform.Options{Ops: []backends.Op{backends.OpKMeans}, Short: true})
		if err != nil {
			t.Fatal(err)
		}
		if noticed := slices.ContainsFunc(r.Failures, func(f string) bool { return strings.Contains(f, "below the best") }); noticed != (every > 0) || (every == 0) != (len(r.Failures) == 0) {
			t.Errorf("every %d: %v", every, r.Failures)
		}
	}
}
