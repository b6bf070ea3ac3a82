// SPDX-License-Identifier: Apache-2.0

//go:build !(goexperiment.simd && amd64 && go1.26 && !go1.27)

package cpu

import "github.com/setun-compute/setun/internal/lloyd"

func assign(s *lloyd.Step) { assignPortable(s) }
