// SPDX-License-Identifier: Apache-2.0

package optim

import (
	"errors"
	"fmt"

	setun "github.com/setun-compute/setun/runtime"
)

// ErrUnfinished is wrapped by errors after which moments and values are neither those before a step nor those after it.
var ErrUnfinished = errors.New("optim: the step is half taken")

// ErrState is returned for a state that does not fit what it is loaded into.
var ErrState = errors.New("state does not fit")

// Tensor is a matrix of parameters with its gradient. Its fields are those of a model's parameter in that order, so that optim.Tensor(*p) converts one; the slices are shared, not
// copied, and must stay where they are.
type Tensor struct {
	Name       string // distinct; in errors and in states
	Rows, Cols int
	Value      []float32 // Rows·Cols, in row order
	Grad       []float32 // as many
	Ternary    bool      // Value are latent weights whose ternary codes the forward pass uses
	Decay      bool      // weight decay applies
}

// check says what is wrong with a list of tensors.
func check(tensors []Tensor) error {
	if len(tensors) == 0 {
		return fmt.Errorf("optim: there are no tensors: %w", setun.ErrArgument)
	}
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		n := len(t.Value)
		switch {
		case t.Name == "" || seen[t.Name]:
			return fmt.Errorf("optim: tensor %d: the name %q is empty or taken: %w", i, t.Name, setun.ErrArgument)
		case t.Rows < 1 || t.Cols < 1 || n == 0 || n%t.Rows != 0 || n/t.Rows != t.Cols:
			return fmt.Errorf("optim: %s: %d values are not %d×%d: %w", t.Name, n, t.Rows, t.Cols, setun.ErrShape)
		case len(t.Grad) != n:
			return fmt.Errorf("optim: %s: %d values with a gradient of %d: %w", t.Name, n, len(t.Grad), setun.ErrShape)
		}
		seen[t.Name] = true
	}
	return nil
}
