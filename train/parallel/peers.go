// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is.
var (
	ErrLibrary     = errors.New("no MPI library could be used")
	ErrUnsupported = errors.New("several processes are not supported here")
	ErrWorld       = errors.New("MPI disagrees with what started this process")
	ErrExchange    = errors.New("exchange between processes failed")
	ErrClosed      = errors.New("closed")
	ErrArgument    = errors.New("wrong argument")
	ErrDiffer      = errors.New("processes differ")
)

// Peers are the processes of a run, as one of them sees them. All ranks make the same calls in the same order with blocks of the same lengths; a call returns when all have made it. It is not for several goroutines at once.
//
// After an error that wraps ErrExchange nothing more can be exchanged: leave the process with a code other than 0, and mpirun ends the others.
type Peers interface {
	// Rank is the number of this process, from 0.
	Rank() int
	// Size is how many there are.
	Size() int
	// Gather copies the blocks of all ranks to all, in rank order: len(all) = Size·len(mine). They do not overlap.
	Gather(all, mine []byte) error
	// Exchange sends block r of send to rank r, and puts what rank r had for this one into block r of recv. Both have Size blocks of one length and do not overlap.
	Exchange(recv, send []byte) error
	// Sent counts the bytes that this rank had for others, each once for each of them. How MPI carries them may add to that.
	Sent() int64
	// Close leaves the run, in order when no exchange failed. All ranks call it.
	Close() error
}

// Alone is a run of one process.
type Alone struct{}

var _ Peers = Alone{}

// Rank returns 0.
func (Alone) Rank() int { return 0 }

// Size returns 1.
func (Alone) Size() int { return 1 }

// Gather copies mine to all.
func (Alone) Gather(all, mine []byte) error {
	if err := checkGather(1, all, mine); err != nil {
		return err
	}
	copy(all, mine)
	return nil
}

// Exchange copies send to recv.
func (Alone) Exchange(recv, send []byte) error {
	if err := checkExchange(1, recv, send); err != nil {
		return err
	}
	copy(recv, send)
	return nil
}

// Sent returns 0.
func (Alone) Sent() int64 { return 0 }

// Close does nothing.
func (Alone) Close() error { return nil }

func checkGather(size int, all, mine []byte) error {
	if len(all) != size*len(mine) {
		return fmt.Errorf("parallel: room of %d bytes for %d blocks of %d: %w", len(all), size, len(mine), ErrArgument)
	}
	return nil
}

func checkExchange(size int, recv, send []byte) error {
	if len(recv) != len(send) || len(send)%size != 0 {
		return fmt.Errorf("parallel: %d bytes for %d received in %d blocks: %w", len(send), len(recv), size, ErrArgument)
	}
	return nil
}
