// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"unsafe"

	"github.com/setun-compute/setun/train/optim"
)

// Reducer replaces the gradients of tensors by their sums over the ranks.
type Reducer interface {
	// Add does it for a step. All ranks have the same bits then. The error of one rank is a *Stop on all.
	Add(step uint64) error
	// State copies what this rank must keep between steps to dst, or to a new one when it is nil.
	State(dst *optim.State) *optim.State
	// Load is the inverse of State.
	Load(s *optim.State) error
}

// Floats is the Reducer that sends float32 values.
type Floats struct {
	peers           Peers
	tensors         []optim.Tensor
	window          int // values that are added at a time
	send, recv, sum []float32
}

// maxWindow bounds the memory of an exchange to some 64 MiB, whatever the model.
const maxWindow = 1 << 22

// NewFloats makes one. It keeps references to the tensors' slices.
func NewFloats(p Peers, tensors []optim.Tensor) *Floats {
	n := p.Size()
	piece := (min(count(tensors), maxWindow)-1)/n + 1
	return &Floats{peers: p, tensors: tensors, window: n * piece, send: make([]float32, n*piece), recv: make([]float32, n*piece), sum: make([]float32, piece)}
}

// FloatBytes is what each of n ranks sends of so many float32 values when they are added up as Floats does it, or in a ring: each has 1/n of them to add, and sends the rest and that sum to all others.
func FloatBytes(values, n int) int64 { return 2 * int64(n-1) * 4 * int64((values-1)/n+1) }

func count(tensors []optim.Tensor) (n int) {
	for i := range tensors {
		n += len(tensors[i].Grad)
	}
	return n
}

// Add has each rank add a piece of the values in float64 in rank order, round once, and send the sums to all.
func (f *Floats) Add(uint64) error {
	n := f.peers.Size()
	if n == 1 {
		return nil
	}
	out, in := place{}, place{}
	for left := count(f.tensors); left > 0; left -= f.window {
		used := min(left, f.window)
		piece := (used-1)/n + 1
		send, recv, sum := f.send[:n*piece], f.recv[:n*piece], f.sum[:piece]
		clear(send[used:])
		for at := 0; at < used; {
			at += copy(send[at:used], out.next(f.tensors, used-at))
		}
		if err := f.peers.Exchange(bytesOf(recv), bytesOf(send)); err != nil {
			return err
		}
		for i := range sum {
			v := float64(recv[i])
			for r := 1; r < n; r++ {
				v += float64(recv[r*piece+i])
			}
			sum[i] = float32(v)
		}
		if err := f.peers.Gather(bytesOf(send), bytesOf(sum)); err != nil {
			return err
		}
		for at := 0; at < used; {
			at += copy(in.next(f.tensors, used-at), send[at:used])
		}
	}
	return nil
}

// State is empty: nothing is remembered.
func (f *Floats) State(dst *optim.State) *optim.State {
	if dst == nil {
		dst = new(optim.State)
	}
	return dst
}

// Load does nothing.
func (f *Floats) Load(*optim.State) error { return nil }

// place is one among the gradients of all tensors, one after another.
type place struct{ tensor, value int }

// next returns at most n of the gradients from there on, those of one tensor, and goes on behind them.
func (p *place) next(tensors []optim.Tensor, n int) []float32 {
	g := tensors[p.tensor].Grad[p.value:]
	if len(g) > n {
		p.value += n
		return g[:n]
	}
	p.tensor, p.value = p.tensor+1, 0
	return g
}

// bytesOf is what values are in memory.
func bytesOf[E float32 | float64](v []E) []byte {
	var e E
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(e)))
}
