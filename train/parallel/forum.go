// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Stop is the error with which all ranks end together: what went wrong on one. errors.Is finds, on that rank, all that its error wraps, and on the others the sentinels that the Forum was given.
type Stop struct {
	Rank int // where it happened: the lowest rank that had an error
	Err  error
}

func (s *Stop) Error() string { return fmt.Sprintf("rank %d: %v", s.Rank, s.Err) }

// Unwrap returns Err.
func (s *Stop) Unwrap() error { return s.Err }

// reported is an error of another rank: its text, and what it is.
type reported struct {
	text string
	kind error
}

func (r *reported) Error() string { return r.text }
func (r *reported) Unwrap() error { return r.kind }

// Forum is where ranks agree. Each method is a meeting that all ranks come to, also one that had an error since the latest: it brings it along, and all leave with the same *Stop. With one rank errors stay what they are.
type Forum struct {
	Peers
	kinds     []error
	mine, all []byte
	numbers   []uint64
	words     []uint64 // of all ranks
}

// NewForum makes one. kinds are sentinels that errors of other ranks are told apart by.
func NewForum(p Peers, kinds ...error) *Forum { return &Forum{Peers: p, kinds: kinds} }

// Codes of a rank's state; further ones are places among the kinds.
const (
	fine = iota
	failed
	known
)

// maxReport bounds the text of an error that is told.
const maxReport = 2048

// meet tells all ranks a few numbers, as many on each, and returns those of all in rank order; they are valid until the next meeting.
func (f *Forum) meet(err error, numbers ...uint64) ([]uint64, error) {
	n := len(numbers)
	if f.Size() == 1 {
		f.words = append(f.words[:0], numbers...)
		return f.words, err
	}
	code := uint64(fine)
	if err != nil {
		code = failed
		for i, k := range f.kinds {
			if errors.Is(err, k) {
				code = known + uint64(i)
				break
			}
		}
	}
	f.mine = binary.LittleEndian.AppendUint64(f.mine[:0], code)
	for _, v := range numbers {
		f.mine = binary.LittleEndian.AppendUint64(f.mine, v)
	}
	f.all = resized(f.all, f.Size()*len(f.mine))
	if err := f.Gather(f.all, f.mine); err != nil {
		return nil, err
	}
	f.words = f.words[:0]
	for r := range f.Size() {
		words := f.all[r*len(f.mine):]
		if code := binary.LittleEndian.Uint64(words); code != fine {
			return nil, f.report(r, code, err)
		}
		for i := range n {
			f.words = append(f.words, binary.LittleEndian.Uint64(words[8*(i+1):]))
		}
	}
	return f.words, nil
}

// report tells all ranks the text of the error of one.
func (f *Forum) report(rank int, code uint64, err error) error {
	mine := make([]byte, maxReport)
	if err != nil {
		copy(mine, err.Error())
	}
	all := make([]byte, f.Size()*maxReport)
	if failed := f.Gather(all, mine); failed != nil {
		return errors.Join(err, failed)
	}
	if rank == f.Rank() {
		return &Stop{rank, err}
	}
	text, _, _ := strings.Cut(string(all[rank*maxReport:][:maxReport]), "\x00")
	told := &reported{text: strings.ToValidUTF8(text, "…")}
	if i := code - known; code >= known && i < uint64(len(f.kinds)) {
		told.kind = f.kinds[i]
	}
	return &Stop{rank, told}
}

// Agree returns nil when no rank has an error.
func (f *Forum) Agree(err error) error {
	_, err = f.meet(err)
	return err
}

// Mean replaces values by their means over the ranks: Σ_r fl64(v_r/n), added in rank order.
func (f *Forum) Mean(err error, values ...*float64) error {
	f.numbers = f.numbers[:0]
	for _, v := range values {
		f.numbers = append(f.numbers, math.Float64bits(*v))
	}
	words, err := f.meet(err, f.numbers...)
	if err != nil || f.Size() == 1 {
		return err
	}
	n := float64(f.Size())
	for i, v := range values {
		*v = 0
		for r := range f.Size() {
			*v += math.Float64frombits(words[r*len(values)+i]) / n
		}
	}
	return nil
}

// Same returns a *Stop that wraps ErrDiffer when a rank has another number than rank 0; what names it.
func (f *Forum) Same(what string, number uint64, err error) error {
	words, err := f.meet(err, number)
	if err != nil {
		return err
	}
	for r, w := range words {
		if w != words[0] {
			return &Stop{r, fmt.Errorf("parallel: %s: %w: not what rank 0 has", what, ErrDiffer)}
		}
	}
	return nil
}

// Any says whether is was true on some rank.
func (f *Forum) Any(is bool) (bool, error) {
	number := uint64(0)
	if is {
		number = 1
	}
	words, err := f.meet(nil, number)
	return slices.Contains(words, 1), err
}

// All returns the values of all ranks, as many of each, in rank order; they are valid until the next meeting.
func (f *Forum) All(dst, values []float64, err error) ([]float64, error) {
	if err := f.Agree(err); err != nil {
		return dst, err
	}
	dst = resized(dst, f.Size()*len(values))
	return dst, f.Gather(bytesOf(dst), bytesOf(values))
}

// GatherFloats is Gather of float32 values.
func (f *Forum) GatherFloats(all, mine []float32) error { return f.Gather(bytesOf(all), bytesOf(mine)) }

// resized returns a slice of n elements, s when it is large enough.
func resized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}
