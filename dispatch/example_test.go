// SPDX-License-Identifier: Apache-2.0

package dispatch_test

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// A router on two arms, one of them measured by hand, and a decision that explains itself.
func Example() {
	pure := dispatch.Arm{Backend: "cpu", Kernel: "go", Threads: 1}
	simd := dispatch.Arm{Backend: "simd_c", Kernel: "avx2", Threads: 1}
	profile := &dispatch.Profile{}
	profile.Set(backends.OpNorm2, simd, dispatch.Fit(dispatch.Prior(backends.OpNorm2, simd), []dispatch.Sample{
		{Shape: dispatch.Vector(backends.OpNorm2, 1_000), Nanos: 180},
		{Shape: dispatch.Vector(backends.OpNorm2, 10_000), Nanos: 500},
		{Shape: dispatch.Vector(backends.OpNorm2, 100_000), Nanos: 4_100},
	}))
	arms := map[backends.Op][]dispatch.Arm{backends.OpNorm2: {pure, simd}}
	router, err := dispatch.NewRouter(arms, profile, dispatch.Policy{})
	if err != nil {
		fmt.Println(err)
		return
	}
	shape, _ := dispatch.ParseShape("norm2", "10000")
	decision := router.Decide(&shape, 0)
	fmt.Println(router.Arms(shape.Op)[decision.Arm], "because of the", decision.Reason)
	// Output: simd_c/avx2 because of the lowest predicted time
}
