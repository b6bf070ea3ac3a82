// SPDX-License-Identifier: Apache-2.0

package canon

import "math/bits"

// The domains keep the draws of different uses apart.
const (
	domainQuantize = 1
	domainChoice   = 2
)

// philox is Philox4x32-10: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
func philox(seed, block uint64, domain uint32) [4]uint32 {
	c := [4]uint32{uint32(block), uint32(block >> 32), domain, 0}
	k0, k1 := uint32(seed), uint32(seed>>32)
	for range 10 {
		a, b := uint64(c[0])*0xD2511F53, uint64(c[2])*0xCD9E8D57
		c = [4]uint32{uint32(b>>32) ^ c[1] ^ k0, uint32(b), uint32(a>>32) ^ c[3] ^ k1, uint32(a)}
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c
}

// Draw4 returns the draws of the elements 4*block … 4*block+3 in stochastic rounding.
func Draw4(seed, block uint64) [4]uint32 { return philox(seed, block, domainQuantize) }

// Choose returns the t-th draw of seed as a number in [0, n).
func Choose(seed, t, n uint64) uint64 {
	w := philox(seed, t, domainChoice)
	hi, _ := bits.Mul64(uint64(w[0])|uint64(w[1])<<32, n)
	return hi
}
