// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package fenv

const watched control = 0

var fields []field

func get() control  { return 0 }
func set(c control) {}
