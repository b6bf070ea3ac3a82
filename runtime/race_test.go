// SPDX-License-Identifier: Apache-2.0

//go:build race

package runtime

// The race detector makes pools forget at random, so that allocations mean nothing, and processes start slowly.
const raceDetector = true
