// SPDX-License-Identifier: Apache-2.0

package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
	"github.com/setun-compute/setun/quant"
)

// groupShapes are rows, columns and groups of quantize with short groups: of one octet of lanes, two and four; that fill them or do not; one tile, some, and a part of one; rows that end with a block of codes or
// within one, many in a tile and longer than one; and what the kernels that read twice serve.
var groupShapes = [][3]int{
	{1, 4, 4}, {1, 128, 128}, {3, 128, 128}, {37, 128, 32}, {2, 4096, 128}, {5, 640, 128}, {1, 25600, 128}, {3, 8960, 128}, {7, 1024, 256}, {3, 1280, 160}, {2, 1024, 512}, {5, 1000, 1000}, {9, 1024, 1024}, {3, 15360, 768},
	{2, 8200, 100}, {11, 12, 4}, {600, 20, 20}, {4, 1300, 260}, {2, 516, 516}, {1, 16384, 1024}, // in one reading
	{3, 130, 65}, {4, 1000, 128}, {2, 9000, 1500}, {2, 8204, 1172}, // in two
}

// where says what a call found fault with.
func where(err error) string {
	var e *backends.Error
	errors.As(err, &e)
	return e.Detail
}

// Groups stay in registers, whose order of additions is another than that of their loads: all shapes, formats and levels of the rules without rounds, with values that overflow a float32 sum, that are subnormal, that
// all round away but for their order, and where some are not finite; aligned in memory or not.
func TestShortGroups(t *testing.T) {
	b := device(t)
	d := backends.DeviceOf(b)
	var kernel backends.Kernel
	for _, k := range b.Kernels() {
		if k.Op == backends.OpQuantize {
			kernel = k
		}
	}
	at, err := d.Alloc(1 << 18)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	var places [2]int
	orderly := func(i int) float32 { // the mean is half-way between two float32 values, and is rounded up where two of the least values meet before they meet the greatest
		if i == 0 {
			places = [2]int{r.IntN(32), r.IntN(32)}
		}
		switch {
		case i == places[0]:
			return 1 << 24
		case i == places[1]:
			return 1
		case i < 32 && r.IntN(5) == 0:
			return 0x1p-30
		}
		return 0
	}
	kinds := []struct {
		name string
		make func(i int) float32 // of the place in its group
	}{
		{"half-way", orderly},
		{"normal", func(int) float32 { return float32(r.NormFloat64()) }},
		{"of all sizes", func(int) float32 { return float32(math.Ldexp(r.NormFloat64(), r.IntN(60)-30)) }},
		{"overflowing", func(int) float32 { return float32(math.MaxFloat32 * (2*r.Float64() - 1)) }},
		{"subnormal", func(int) float32 { return math.Float32frombits(uint32(r.IntN(100)) | uint32(r.IntN(2))<<31) }},
		{"zeros", func(int) float32 { return math.Float32frombits(uint32(r.IntN(2)) << 31) }},
		{"with infinities", func(int) float32 { return float32(r.NormFloat64() / float64(r.IntN(2000))) }},
	}
	cases, failed := 0, 0
	for si, shape := range groupShapes {
		rows, cols, group := shape[0], shape[1], shape[2]
		for ki, kind := range kinds {
			x := make([]float32, rows*cols)
			for i := range x {
				x[i] = kind.make(i % cols % group)
			}
			if ki == len(kinds)-1 && si%2 == 0 {
				x[r.IntN(len(x))] = float32(math.NaN())
			}
			for _, o := range []quant.Options{{Format: quant.Int8}, {Format: quant.Bits2}, {Format: quant.Base3}, {Levels: quant.Quinary, Format: quant.Int8}} {
				for _, rule := range []quant.Rule{quant.AbsMean, quant.AbsMax} {
					o.Cols, o.Group, o.Rule = cols, group, rule
					o := o.WithDefaults(len(x))
					quantize := func(b backends.Backend, k backends.Kernel, at backends.Address) (result []byte, err error) {
						var to quant.Tensor
						to.Resize(rows, o)
						err = b.Quantize(k, &backends.Quantize{X: x, XAt: at, Rule: o.Rule, Dst: &to})
						return bytes.Join([][]byte{backends.Bytes(to.Codes), to.Packed, backends.Bytes(to.Scales)}, nil), err
					}
					want, wrong := quantize(cpu.Backend{}, backends.Kernel{}, 0)
					for turn, place := range []backends.Address{0, at, at + 4} {
						if place != 0 && (si+ki)%3 > 0 { // seldom: it takes a copy
							continue
						}
						if cases++; place != 0 {
							if err := d.Upload(place, backends.Bytes(x)); err != nil {
								t.Fatal(err)
							}
						}
						name := fmt.Sprintf("%dx%d group %d, %s, %v %v %v, place %d", rows, cols, group, kind.name, o.Levels, rule, o.Format, turn)
						got, err := quantize(b, kernel, place)
						switch {
						case wrong != nil:
							if failed++; !errors.Is(err, backends.ErrNonFinite) || place == 0 && where(err) != where(wrong) {
								t.Errorf("%s: %v, of pure Go %v", name, err, wrong)
							}
						case err != nil:
							t.Errorf("%s: %v", name, err)
						case !bytes.Equal(got, want):
							t.Errorf("%s: not the bits of pure Go", name)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases, %d not finite", cases, failed)
	if failed == 0 {
		t.Error("no case has a value that is not finite")
	}
}
