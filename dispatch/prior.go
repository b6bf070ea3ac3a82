// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// Arm identifies a kernel.
type Arm struct {
	Backend, Kernel string
	Threads         int    // that it keeps busy; 0 counts as 1
	Fast            bool   // its results are not canonical: only for shapes that are Fast
	Memory          Memory `json:",omitempty"` // in which its operands have to be
}

// String returns "backend/kernel".
func (a Arm) String() string { return a.Backend + "/" + a.Kernel }

// Hardware is what a prior can use of a machine. Zero fields are unknown. Instruction sets are not here: a kernel that
// the processor cannot run never becomes an arm.
type Hardware struct {
	Cores int // that the process may use
	L3    int // bytes of the last cache before memory
}

// speed is what a kernel of some kind is expected to reach: nanoseconds before any work, bytes a nanosecond, flops a nanosecond.
type speed struct{ launch, bytes, flops float64 }

// expected holds round figures for one core of a current server processor. They only have to put the arms in the right
// order until `calibrate run` has measured.
var expected = map[string]speed{
	"go":         {30, 4, 3},
	"scalar":     {150, 1.5, 0.8},
	"sse42":      {150, 20, 4},
	"avx2":       {150, 40, 70},
	"avx512":     {150, 45, 80},
	"neon":       {150, 30, 40},
	"neondot":    {150, 30, 40}, // packed codes
	"avx512vnni": {150, 45, 80}, // k-means and packed codes; screens gives it more
	"avx512vbmi": {150, 45, 80}, // packed codes
	"gonum":      {150, 8, 6},
	// Fast ones: the system's BLAS, whose name is its kernel's.
	"openblas":   {1500, 40, 80},
	"mkl":        {1500, 40, 80},
	"blis":       {1500, 40, 80},
	"accelerate": {1500, 40, 80},
	// A device's, whose bytes and flops are those of a thousandth of it: see threads.
	"cuda":   {12000, 1.5, 20},
	"screen": {25000, 1.5, 20},
	"tensor": {25000, 1.5, 60},
	"cublas": {14000, 1.5, 25},
}

// A kernel of a device counts as so many threads, however many the host keeps busy with it.
const deviceThreads = 1000

// screens is how many times as fast the scores of Broad k-means are by kernels that screen them: less than was measured where there is
// something to save, so that a prior prefers them where they may lose a tenth and gain a half.
var screens = map[string]float64{"avx512vnni": 1.5, "screen": 1.5}

// unknownSpeed is for a kernel of a name never heard of: a little better than pure Go, at a native call's price.
var unknownSpeed = speed{200, 6, 6}

const (
	wakeNanos    = 2000 // waking threads; about 1200 were measured for two
	memoryBytes  = 25   // bytes a nanosecond that one core reads from memory
	memoryThread = 5    // and what each further one adds
)

// level is a kernel's name without the number of threads that may end it: "avx512x2".
func level(a Arm) string {
	return strings.TrimSuffix(a.Kernel, "x"+strconv.Itoa(a.Threads))
}

// Prior returns the coefficients of an arm before any measurement, on a machine of which nothing is known.
func Prior(op backends.Op, a Arm) Coef { return Hardware{}.Prior(op, a).Coef }

// Prior returns the model of an arm before any measurement. Threads beyond the cores gain nothing. When the last cache is
// known, ops that are limited by bytes slow down to the speed of memory from half its size to twice its size.
func (h Hardware) Prior(op backends.Op, a Arm) Model {
	s, ok := expected[level(a)]
	if !ok {
		s = unknownSpeed
	}
	threads := max(1, a.Threads)
	if threads > 1 {
		s.launch += wakeNanos
	}
	if h.Cores > 0 {
		threads = min(threads, h.Cores)
	}
	if a.Memory != Host {
		threads, h.L3 = deviceThreads, 0 // the memory of this machine says nothing of the device's
	}
	t := float64(threads)
	switch op {
	case backends.OpQuantize, backends.OpStep:
		return Model{Coef{s.launch, 0.5 / (s.bytes * t), 1 / (s.bytes * t), 10 / t}, h.memory(s.bytes*t, t)}
	case backends.OpClusters:
		return Model{Coef{s.launch, 1 / (s.bytes * t), 20 / t}, h.memory(s.bytes*t, t)}
	case backends.OpKMeans:
		m := Model{Coef: Coef{10 * s.launch, 2 / (s.flops * t), 4 / (s.bytes * t), 4 / s.bytes, 4 / (s.flops * t), 20 / t}}
		if gain := screens[level(a)]; gain > 0 {
			m.Cells = []Cell{{Spread: unmeasured}, {Variant: Broad, Log: -math.Log(gain), Spread: unmeasured}}
		}
		return m
	case backends.OpRecode:
		return Model{Coef{s.launch, 1 / (s.bytes * t), 0.2 / (s.bytes * t)}, h.memory(s.bytes*t, t)}
	case backends.OpRMSNorm, backends.OpActivate:
		return Model{Coef{s.launch, 1 / (s.bytes * t), 20 / t}, h.memory(s.bytes*t, t)}
	case backends.OpSoftmax, backends.OpUpdate: // powers; roots and quotients in float64
		return Model{Coef{s.launch, 2 / (s.bytes * t), 20 / t}, h.memory(s.bytes*t, t)}
	case backends.OpActivations:
		return Model{Coef{s.launch, 1 / (s.bytes * t), 20 / t}, h.memory(s.bytes*t, t)}
	case backends.OpTernary: // a multiply-add of bytes is about as fast as one of four flops; a screen's level has products of four
		products := s.flops * t
		if l := level(a); screens[l] > 0 || l == "avx512vbmi" || l == "neondot" {
			products *= 2
		}
		return Model{Coef: Coef{2 * s.launch, 1 / products, 0.5 / (s.bytes * t), 0.1 / t, 1 / t}}
	case backends.OpMatMul:
		return Model{Coef: Coef{2 * s.launch, 2 / (s.flops * t), 4 / (s.bytes * t)}}
	}
	return Model{Coef{s.launch, 1 / (s.bytes * t)}, h.memory(s.bytes*t, t)}
}

// beside is how many times as long a call takes when others are in flight, beside what it takes alone: threads are worth nothing then, since the others keep the cores busy. (Two callers
// on two cores: an arm of two threads takes 1.05 to 1.15 times as long as the same kernel on one; with eight, single calls wait for milliseconds until a worker is given a core again.)
func (h Hardware) beside(a Arm) float64 {
	threads := max(1, a.Threads)
	if h.Cores > 0 {
		threads = min(threads, h.Cores)
	}
	return float64(threads)
}

// memory returns the corrections of a prior: none in cache, the ratio of speeds in memory.
func (h Hardware) memory(bytes, threads float64) []Cell {
	slower := bytes / (memoryBytes + memoryThread*(threads-1))
	if h.L3 < 1<<10 || slower <= 1 {
		return nil
	}
	half := int(perOctave * octaves(float64(h.L3)/4/2)) // values of 4 bytes
	return []Cell{
		{Class: half, Spread: unmeasured},
		{Class: min(half+2*perOctave, numClasses-1), Log: min(math.Log(slower), maxLog), Spread: unmeasured},
	}
}
