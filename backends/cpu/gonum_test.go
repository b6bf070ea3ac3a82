// SPDX-License-Identifier: Apache-2.0

package cpu_test

import (
	"testing"

	"github.com/setun-compute/setun/backends/conform"
	"github.com/setun-compute/setun/backends/cpu"
)

func TestGonumIsWithinTheBound(t *testing.T) { conform.Run(t, cpu.Gonum{}) }
