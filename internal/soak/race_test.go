// SPDX-License-Identifier: Apache-2.0

//go:build race

package soak

// The race detector makes pools forget at random, so that allocations mean nothing.
const raceDetector = true
