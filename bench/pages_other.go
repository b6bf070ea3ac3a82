// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

// pages returns n values.
func pages[E int8 | byte | float32](n int) []E { return make([]E, n) }
