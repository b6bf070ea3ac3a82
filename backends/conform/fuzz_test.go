// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"slices"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/internal/every"
)

func fuzz(f *testing.F, op backends.Op) {
	all := every.Open(libraries(), "", "none", "none") // a BLAS has no bits to compare
	f.Cleanup(all.Close)
	required(f, all)
	conform.Fuzz(f, op, slices.DeleteFunc(slices.Clone(all.Arms), func(a conform.Arm) bool {
		return a.Kernel.Threads > 3 // who take most of the time, waiting for each other, and are among the other cases
	}))
}

func FuzzQuantize(f *testing.F)  { fuzz(f, backends.OpQuantize) }
func FuzzConstrain(f *testing.F) { fuzz(f, backends.OpConstrain) }
func FuzzDot(f *testing.F)       { fuzz(f, backends.OpDot) }
func FuzzNorm2(f *testing.F)     { fuzz(f, backends.OpNorm2) }
func FuzzKMeans(f *testing.F)    { fuzz(f, backends.OpKMeans) }
func FuzzMatMul(f *testing.F)    { fuzz(f, backends.OpMatMul) }
func FuzzClusters(f *testing.F)  { fuzz(f, backends.OpClusters) }
func FuzzStep(f *testing.F)      { fuzz(f, backends.OpStep) }

func FuzzActivations(f *testing.F) { fuzz(f, backends.OpActivations) }
func FuzzTernary(f *testing.F)     { fuzz(f, backends.OpTernary) }
func FuzzRecode(f *testing.F)      { fuzz(f, backends.OpRecode) }

func FuzzRMSNorm(f *testing.F)  { fuzz(f, backends.OpRMSNorm) }
func FuzzSoftmax(f *testing.F)  { fuzz(f, backends.OpSoftmax) }
func FuzzActivate(f *testing.F) { fuzz(f, backends.OpActivate) }
func FuzzUpdate(f *testing.F)   { fuzz(f, backends.OpUpdate) }
