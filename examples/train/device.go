// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/runtime"
)

// open opens a runtime that chooses kernels itself, or one that runs everything on the device that was asked for.
func (c *command) open() (*runtime.Runtime, error) {
	if c.device == "" {
		return runtime.Open()
	}
	name, number, numbered := strings.Cut(c.device, ":")
	n, err := strconv.ParseUint(number, 10, 16)
	if !numbered {
		n, err = 0, nil
	}
	if name != "cuda" || err != nil {
		return nil, fmt.Errorf("%w: -device %q is not cuda:0, cuda:1, …", errUsage, c.device)
	}
	backend := name
	if n > 0 {
		backend += ":" + number
	}
	rt, err := runtime.Open(runtime.WithCUDA(int(n))) // to hear why it is not there
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	reason := "no library was found: run make native"
	for _, b := range rt.Report().Backends {
		switch {
		case b.Name == backend && b.State == "loaded":
			return runtime.Open(runtime.WithCUDA(int(n)), runtime.WithForce(backend))
		case strings.HasPrefix(b.Name, name) && b.Reason != "":
			reason = b.Reason
		}
	}
	return nil, fmt.Errorf("-device %s: %s: %w", c.device, reason, runtime.ErrNoBackend)
}
