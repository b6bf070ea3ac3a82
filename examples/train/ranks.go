// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train"
	"github.com/setun-compute/setun/train/parallel"
)

// together calls train as one of the processes that mpirun started, or alone. Only rank 0 is heard. The runtime is opened first: a process that cannot ends before the others have met it, and mpirun ends them.
func (c *command) together(stdout, stderr io.Writer, train func(rt *runtime.Runtime, stdout, stderr io.Writer) error) (err error) {
	rt, err := c.open()
	if err != nil {
		return err
	}
	defer rt.Close()
	if c.peers, err = parallel.Open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.peers.Close()) }()
	if c.peers.Rank() > 0 {
		stdout, stderr = io.Discard, io.Discard
	}
	return train(rt, stdout, stderr)
}

// unheard says whether another process tells the error.
func (c *command) unheard(err error) bool {
	var stop *parallel.Stop
	return c.peers != nil && c.peers.Rank() > 0 && errors.As(err, &stop)
}

// printWire tells what went between processes.
func printWire(w io.Writer, s *train.Summary) {
	if s.WireBytes == 0 {
		return
	}
	fmt.Fprintf(w, "%d processes: each sent %d bytes a step", s.Config.Ranks, s.WireBytes)
	if s.Config.Compress != "" {
		fmt.Fprintf(w, ", float32 gradients take %.2f times as many", s.WireRatio)
	}
	fmt.Fprintf(w, "; %d bytes together\n", s.WireTotal)
}
