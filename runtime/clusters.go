// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

var clustersArgs = sync.Pool{New: func() any { return new(backends.Clusters) }}

func doClusters(m *arm, a *backends.Clusters) error { return m.backend.ConstrainClusters(m.kernel, a) }

// Clusters says which values of a step belong together, and how far each cluster may go. Set Offsets or Labels.
type Clusters struct {
	Offsets []int64   // len(Radii)+1 values from 0 to len(x), never falling: cluster c is x[Offsets[c]:Offsets[c+1]], which may be empty
	Labels  []int32   // x has a row of len(x)/len(Labels) values for each label, the row's cluster; −1: in no cluster, the row stays as it is
	Radii   []float64 // one a cluster, at least 0; infinite for no limit
	Norms   []float64 // filled in: ‖cluster‖₂ before scaling; used again when it is large enough
}

// ConstrainClusters projects each cluster of the step x on the ball of its own radius: a cluster stays when its norm is within its radius, else its values
// are scaled so that ‖cluster‖₂ ≤ radius truly holds. It returns out and sets c.Norms. One call is what a Constrain for each cluster would be; segments have the same bits as those.
//
// dst is allocated when nil. dst = x works in place: inside the balls nothing changes. Errors: ErrArgument for a radius that is negative or NaN (naming
// the cluster), a label out of range or offsets that fall, ErrShape for lengths that do not fit, ErrAlias for a dst that overlaps x otherwise, ErrNonFinite
// naming the index, also in rows without a cluster; x is untouched by all of these, dst and c.Norms are unspecified after the last.
// Deterministic: the same bits on every kernel. c must not be shared by calls that run at the same time.
func (rt *Runtime) ConstrainClusters(dst, x []float32, c *Clusters) (out []float32, err error) {
	return rt.ConstrainClustersContext(context.Background(), dst, x, c)
}

// ConstrainClustersContext is ConstrainClusters that stops with ctx's error when ctx ends while norms are summed; x is untouched then.
func (rt *Runtime) ConstrainClustersContext(ctx context.Context, dst, x []float32, c *Clusters) (out []float32, err error) {
	ctx = given(ctx)
	if dst == nil {
		dst = make([]float32, len(x))
	}
	if c == nil {
		c = new(Clusters) // Check says what it lacks
	}
	c.Norms = sized(c.Norms, len(c.Radii))
	a := clustersArgs.Get().(*backends.Clusters)
	*a = backends.Clusters{X: x, Dst: dst, Offsets: c.Offsets, Labels: c.Labels, Radii: c.Radii, Norms: c.Norms}
	if err = a.Check(); err == nil {
		err = ctx.Err() // an ended context stops the shortest call too
	}
	if err == nil {
		flag, stop := watch(ctx)
		a.Cancel = flag
		s := dispatch.Clusters(len(x), len(c.Radii))
		p := rt.placing().with(slice(x), &a.XAt, true, false).with(slice(dst), &a.DstAt, false, true)
		err = finished(ctx, runPlaced(ctx, rt, 0, p, &s, a, doClusters, once))
		stop()
	}
	put(&clustersArgs, a, err)
	return dst, err
}
