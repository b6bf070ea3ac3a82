// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"errors"
	"fmt"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/conform"
)

// cramped is a backend whose calls are too large now and then: what cannot be cut is refused.
type cramped struct {
	backends.Backend
	calls, refused int
}

func (c *cramped) tell(err error) error {
	c.calls++
	if errors.Is(err, backends.ErrMemory) {
		c.refused++
		return fmt.Errorf("%w: %w", backends.ErrUnsupported, err)
	}
	return err
}

func (c *cramped) Quantize(k backends.Kernel, a *backends.Quantize) error {
	return c.tell(c.Backend.Quantize(k, a))
}
func (c *cramped) Constrain(k backends.Kernel, a *backends.Constrain) error {
	return c.tell(c.Backend.Constrain(k, a))
}
func (c *cramped) Reduce(k backends.Kernel, a *backends.Reduce) error {
	return c.tell(c.Backend.Reduce(k, a))
}
func (c *cramped) ConstrainClusters(k backends.Kernel, a *backends.Clusters) error {
	return c.tell(c.Backend.ConstrainClusters(k, a))
}
func (c *cramped) MatMul(k backends.Kernel, a *backends.MatMul) error {
	return c.tell(c.Backend.MatMul(k, a))
}
func (c *cramped) Step(k backends.Kernel, a *backends.Step) error {
	return c.tell(c.Backend.Step(k, a))
}
func (c *cramped) Activations(k backends.Kernel, a *backends.Activations) error {
	return c.tell(c.Backend.Activations(k, a))
}
func (c *cramped) Ternary(k backends.Kernel, a *backends.Ternary) error {
	return c.tell(c.Backend.Ternary(k, a))
}
func (c *cramped) Recode(k backends.Kernel, a *backends.Recode) error {
	return c.tell(c.Backend.Recode(k, a))
}
func (c *cramped) RMSNorm(k backends.Kernel, a *backends.RMSNorm) error {
	return c.tell(c.Backend.RMSNorm(k, a))
}
func (c *cramped) Softmax(k backends.Kernel, a *backends.Softmax) error {
	return c.tell(c.Backend.Softmax(k, a))
}
func (c *cramped) Activate(k backends.Kernel, a *backends.Activate) error {
	return c.tell(c.Backend.Activate(k, a))
}
func (c *cramped) Update(k backends.Kernel, a *backends.Update) error {
	return c.tell(c.Backend.Update(k, a))
}

// The suite with so little memory that many of its cases are done in pieces, one op after the other: beside each other they would take it from each other.
func TestConformsInPieces(t *testing.T) {
	b := &cramped{Backend: device(t)}
	if err := backends.DeviceOf(b.Backend).Limit(100_000); err != nil {
		t.Fatal(err)
	}
	for _, a := range conform.Arms(b) {
		if !a.Kernel.Fast && a.Kernel.Op != backends.OpKMeans { // few points and many centroids, which are not cut
			conform.CheckWith(t, []conform.Arm{a}, conform.Options{Short: true, Random: 20})
		}
	}
	if t.Logf("%d calls, %d refused", b.calls, b.refused); b.refused*20 > b.calls {
		t.Error("too much was refused")
	}
}
