// SPDX-License-Identifier: Apache-2.0

// Package hwfma is the processor's fused multiply-add in float32, which Go does not offer without cgo: the truth that canon.FMA32 is tested against. Nothing else
// uses it.
package hwfma

// Width is what a number of triples must be a multiple of.
const Width = 8

// FMA sets dst[i] = a[i]·b[i] + c[i], rounded once, for i < len(dst), which is a multiple of Width; the others are at least as long. Only where Available.
func FMA(dst, a, b, c []float32) {
	if len(dst)%Width != 0 || len(a) < len(dst) || len(b) < len(dst) || len(c) < len(dst) {
		panic("hwfma: lengths")
	}
	if len(dst) > 0 {
		fma(&dst[0], &a[0], &b[0], &c[0], len(dst))
	}
}
