// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"fmt"
	"sync"
)

// Local returns n ranks within this process, each for a goroutine of its own: for tests, and for programs that want to see what a number of ranks computes.
func Local(n int) []Peers {
	m := &meeting{size: n, blocks: make([][]byte, n)}
	m.changed.L = &m.mutex
	list := make([]Peers, n)
	for r := range list {
		list[r] = &local{meeting: m, rank: r}
	}
	return list
}

// meeting is where local ranks wait for each other.
type meeting struct {
	mutex   sync.Mutex
	changed sync.Cond
	size    int
	here    int    // ranks that have come this turn
	turn    uint64 // turns so far
	closed  bool   // a rank has left
	blocks  [][]byte
}

// wait returns when all ranks have called it, or false when one has left.
func (m *meeting) wait() bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.closed {
		return false
	}
	turn := m.turn
	if m.here++; m.here == m.size {
		m.here, m.turn = 0, turn+1
		m.changed.Broadcast()
		return true
	}
	for m.turn == turn && !m.closed {
		m.changed.Wait()
	}
	return m.turn != turn
}

// local is a rank of a meeting.
type local struct {
	*meeting
	rank int
	sent int64
}

func (l *local) Rank() int   { return l.rank }
func (l *local) Size() int   { return l.size }
func (l *local) Sent() int64 { return l.sent }

// show puts a block where all can read it, and returns when all have; done when all have read.
func (l *local) show(block []byte) error {
	l.blocks[l.rank] = block
	return l.done()
}

func (l *local) done() error {
	if !l.wait() {
		return fmt.Errorf("parallel: %w: another rank has left", ErrExchange)
	}
	return nil
}

func (l *local) Gather(all, mine []byte) error {
	if err := checkGather(l.size, all, mine); err != nil {
		return err
	}
	if err := l.show(mine); err != nil {
		return err
	}
	for r, b := range l.blocks {
		copy(all[r*len(mine):][:len(mine)], b)
	}
	l.sent += int64((l.size - 1) * len(mine))
	return l.done()
}

func (l *local) Exchange(recv, send []byte) error {
	if err := checkExchange(l.size, recv, send); err != nil {
		return err
	}
	if err := l.show(send); err != nil {
		return err
	}
	n := len(send) / l.size
	for r, b := range l.blocks {
		copy(recv[r*n:][:n], b[min(len(b), l.rank*n):])
	}
	l.sent += int64((l.size - 1) * n)
	return l.done()
}

// Close makes exchanges of the other ranks fail rather than wait.
func (l *local) Close() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	l.changed.Broadcast()
	return nil
}
