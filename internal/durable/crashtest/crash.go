// SPDX-License-Identifier: Apache-2.0

package crashtest

import (
	"math/rand/v2"
	"slices"
)

// Crash returns what is there when the power comes back: all that was synced, and of the rest so many percent, each entry and block by chance, some blocks in part. The file system itself stays as it is.
func (s *FS) Crash(percent int, r *rand.Rand) *FS {
	c := crash{percent, r, map[*node]*node{}}
	return &FS{root: c.folder(s.root), temps: s.temps}
}

type crash struct {
	percent int
	r       *rand.Rand
	done    map[*node]*node // files with two names stay one
}

// survives draws. What a failed sync was to write has been written in part.
func (c *crash) survives(wasLost bool) bool {
	p := c.percent
	if wasLost {
		p /= 2
	}
	return c.r.IntN(100) < p
}

func (c *crash) node(n *node) *node {
	if c.done[n] == nil {
		if n.folder {
			c.done[n] = c.folder(n)
		} else {
			data := c.file(n)
			c.done[n] = &node{live: data, disk: slices.Clone(data), blocks: map[int]erasure{}}
		}
	}
	return c.done[n]
}

func (c *crash) folder(n *node) *node {
	entries := map[string]*node{}
	for name, e := range n.saved {
		entries[name] = e
	}
	for _, change := range n.changes {
		if c.survives(change.lost) {
			apply(entries, change, change.lost || c.survives(false))
		}
	}
	after := newFolder()
	for _, name := range sorted(entries) { // so that the seed decides, not the order of a map
		e := c.node(entries[name])
		after.entries[name], after.saved[name] = e, e
	}
	return after
}

func (c *crash) file(n *node) []byte {
	size := len(n.disk)
	if c.survives(false) {
		size = len(n.live) // its tail may be zeros
	}
	data := append(slices.Clone(n.disk), make([]byte, len(n.live)-len(n.disk))...)
	for i := 0; i*blockSize < len(n.live); i++ {
		state, unsynced := n.blocks[i]
		if !unsynced || !c.survives(state == lost) {
			continue
		}
		end := min(len(n.live), (i+1)*blockSize)
		if c.percent < 100 && c.r.IntN(4) == 0 { // torn
			end = i*blockSize + c.r.IntN(end-i*blockSize)
		}
		copy(data[i*blockSize:end], n.live[i*blockSize:end])
		size = max(size, end)
	}
	return data[:size]
}

func sorted(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
