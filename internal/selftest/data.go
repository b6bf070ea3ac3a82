// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"math/rand/v2"
	"sync"
)

// normal are the values that all trials take theirs from: drawing them anew would be most of a test's time.
var normal = sync.OnceValue(func() []float32 {
	r := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, 1<<14)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
})

// values are nearly normal: the same ones for the same seed. The caller must not change them.
func values(n int, seed uint64) []float32 {
	all := normal()
	from := int(seed % 64 * 97)
	for len(all) < from+n { // for a shape that was noted, which may be large
		all = append(all[:len(all):len(all)], all...)
	}
	return all[from : from+n : from+n]
}

// wide are nearly normal values times powers of two from 1 to 2^15: their sums round at every addition, so that one in another order comes out otherwise.
func wide(n int, seed uint64) []float32 {
	x := make([]float32, n)
	for i, v := range values(n, seed) {
		x[i] = v * float32(int(1)<<((i*7+int(seed))%16))
	}
	return x
}

// whole are integers from −most to most, which small sums and products keep exact in any order.
func whole(n, most int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.IntN(2*most+1) - most)
	}
	return x
}

// positive are from ½ to 1½.
func positive(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 3))
	x := make([]float32, n)
	for i := range x {
		x[i] = 0.5 + r.Float32()
	}
	return x
}

// apart are n points of d whole numbers about k places that are far from each other: every way of scoring finds the same labels.
func apart(n, d, k int, seed uint64) []float32 {
	x := whole(n*d, 2, seed)
	for i := range n {
		for j := range d {
			if (i%k)>>(j%8)&1 != 0 {
				x[i*d+j] += 64
			}
		}
	}
	return x
}
