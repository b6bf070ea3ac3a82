// SPDX-License-Identifier: Apache-2.0

package canon

import "math"

// Chunk is the number of elements that are summed in 32 lanes before a fold.
const Chunk = 4096

const absMask = 1<<31 - 1

// fold halves the lanes until one is left.
func fold(t *[32]float64) float64 {
	for w := 16; w > 0; w /= 2 {
		for l := range w {
			t[l] += t[l+w]
		}
	}
	return t[0]
}

// foldFew is fold where lanes from n on were never added to, and no lane is −0: adding what they hold changes nothing.
func foldFew(t *[32]float64, n int) float64 {
	for w := 16; w > 0; w /= 2 {
		for l := 0; l < w && l+w < n; l++ {
			t[l] += t[l+w]
		}
	}
	return t[0]
}

// Tree sums chunk sums by the rule S, as a stream. The zero value is an empty sum.
type Tree struct {
	lanes [5][32]float64 // level l holds sums of Chunk^(l+1) elements; five levels outlast int64
	n     [5]int
}

// Add appends the next chunk's sum.
func (t *Tree) Add(v float64) { t.addAt(0, v) }

func (t *Tree) addAt(level int, v float64) {
	for l := level; l < len(t.n); l++ {
		t.lanes[l][t.n[l]%32] += v
		if t.n[l]++; t.n[l] < Chunk {
			return
		}
		v = fold(&t.lanes[l])
		t.lanes[l], t.n[l] = [32]float64{}, 0
	}
}

// Sum returns the total and empties the tree.
func (t *Tree) Sum() float64 {
	for l := range len(t.n) - 1 {
		if t.n[l] > 0 {
			v := fold(&t.lanes[l])
			t.lanes[l], t.n[l] = [32]float64{}, 0
			t.addAt(l+1, v)
		}
	}
	v := fold(&t.lanes[4])
	*t = Tree{}
	return v
}

// overChunks applies the rule S to n elements whose chunk sums are chunk(begin, end).
func overChunks(n int, chunk func(begin, end int) float64) float64 {
	if n <= Chunk {
		return chunk(0, n)
	}
	var t Tree
	for i := 0; i < n; i += Chunk {
		t.Add(chunk(i, min(i+Chunk, n)))
	}
	return t.Sum()
}

// Sum returns S(v).
func Sum(v []float64) float64 {
	return overChunks(len(v), func(b, e int) float64 { return ChunkSum(v[b:e]) })
}

// SumSquares returns S(x²).
func SumSquares(x []float32) float64 {
	return overChunks(len(x), func(b, e int) float64 { return ChunkDot(x[b:e], x[b:e]) })
}

// Dot returns S(x·y).
func Dot(x, y []float32) float64 {
	if len(x) <= Chunk {
		return ChunkDot(x, y)
	}
	return overChunks(len(x), func(b, e int) float64 { return ChunkDot(x[b:e], y[b:e]) })
}

// ChunkSum is the sum of at most Chunk values.
func ChunkSum(v []float64) float64 {
	var t [32]float64
	for i, x := range v {
		t[i%32] += x
	}
	return fold(&t)
}

// ChunkDot is the sum of x[i]*y[i] over at most Chunk elements. The products are exact in float64.
//
// The lanes are walked eight at a time, so that their accumulators stay in registers; a chunk stays in the first cache.
func ChunkDot(x, y []float32) float64 {
	var t [32]float64
	y = y[:len(x)]
	whole := len(x) &^ 31
	for g := 0; g < 32; g += 8 {
		var a0, a1, a2, a3, a4, a5, a6, a7 float64
		for i := g; i < whole; i += 32 {
			p, q := x[i:i+8:i+8], y[i:i+8:i+8]
			a0 += float64(float64(p[0]) * float64(q[0]))
			a1 += float64(float64(p[1]) * float64(q[1]))
			a2 += float64(float64(p[2]) * float64(q[2]))
			a3 += float64(float64(p[3]) * float64(q[3]))
			a4 += float64(float64(p[4]) * float64(q[4]))
			a5 += float64(float64(p[5]) * float64(q[5]))
			a6 += float64(float64(p[6]) * float64(q[6]))
			a7 += float64(float64(p[7]) * float64(q[7]))
		}
		copy(t[g:], []float64{a0, a1, a2, a3, a4, a5, a6, a7})
	}
	for i := whole; i < len(x); i++ {
		t[i-whole] += float64(float64(x[i]) * float64(y[i]))
	}
	return fold(&t)
}

// ChunkAbs is the sum of magnitudes of at most Chunk values: float32 lanes, and float64 lanes when those overflow. The result is not
// finite only if a value is not.
func ChunkAbs(x []float32) float64 {
	var t [32]float64
	whole := len(x) &^ 31
	for g := 0; g < 32; g += 8 {
		var a0, a1, a2, a3, a4, a5, a6, a7 float32
		for i := g; i < whole; i += 32 {
			p := x[i : i+8 : i+8]
			a0 += abs(p[0])
			a1 += abs(p[1])
			a2 += abs(p[2])
			a3 += abs(p[3])
			a4 += abs(p[4])
			a5 += abs(p[5])
			a6 += abs(p[6])
			a7 += abs(p[7])
		}
		for j, a := range [8]float32{a0, a1, a2, a3, a4, a5, a6, a7} {
			t[g+j] = float64(a)
		}
	}
	for i := whole; i < len(x); i++ {
		t[i-whole] = float64(float32(t[i-whole]) + abs(x[i]))
	}
	s := fold(&t)
	if s-s == 0 {
		return s
	}
	t = [32]float64{}
	for i, v := range x {
		t[i%32] += float64(abs(v))
	}
	return fold(&t)
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) & absMask) }
