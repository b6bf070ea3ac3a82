// SPDX-License-Identifier: Apache-2.0

// Package conform is the suite that every backend must pass: each kernel against pure Go, bit for bit, or against a derived bound on rounding
// when it is Fast.
//
// A case runs on pure Go once and then on every arm. Its inputs lie between pages that cannot be touched, at every offset from a cache line, and
// are compared afterwards; what comes back, errors included, is taken down and compared byte by byte. Data are of four distributions and of
// kinds that hurt: ties with thresholds and between centroids, cancellation, subnormal, huge and tiny values. The fixed cases are the same on every machine, and
// so is the digest of their results, [Digest]; further cases can be drawn from a seed.
//
// A test of a backend calls [Run]; `calibrate verify` calls [Verify].
package conform
