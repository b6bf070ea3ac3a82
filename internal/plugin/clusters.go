// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"unsafe"

	"github.com/setun-compute/setun/backends"
)

// clustersArgs mirrors setun_clusters.
type clustersArgs struct {
	call
	x, dst       *float32
	n, k         int64
	offsets      *int64
	labels       *int32
	rows         int64
	radii, norms *float64
	scratch      *float64
}

var clustersBlocks = workPool(func(a *clustersArgs) *call { return &a.call })

// ConstrainClusters calls the kernel's constrain by clusters.
func (b *Backend) ConstrainClusters(k backends.Kernel, a *backends.Clusters) (err error) {
	x := clustersBlocks.Get().(*workBlock[clustersArgs])
	common := x.args.call
	common.cancel = flag(a.Cancel)
	x.args = clustersArgs{
		call: common, x: operand(a.X, a.XAt), dst: operand(a.Dst, a.DstAt), n: int64(len(a.X)), k: int64(len(a.Radii)),
		offsets: unsafe.SliceData(a.Offsets), labels: unsafe.SliceData(a.Labels), rows: int64(len(a.Labels)),
		radii: unsafe.SliceData(a.Radii), norms: unsafe.SliceData(a.Norms),
	}
	if a.Labels != nil {
		x.args.scratch = x.scratch(2*len(a.Labels) + len(a.Radii))
	}
	if rc := x.invoke(b, k); rc != statusOK {
		b.fetch(rc, x.args.badIndex, a.X, nil, a.XAt, 0)
		err = b.failure(k, rc, &x.args.call, a.X, nil)
	}
	common.cancel = nil
	x.args = clustersArgs{call: common}
	clustersBlocks.Put(x)
	return err
}
