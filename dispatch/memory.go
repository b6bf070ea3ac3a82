// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"math"
)

const (
	remembered = 16  // calls that a cell remembers
	stale      = 256 // calls of all arms after which a cell that turns out to be wrong counts for one call
)

// memory is what a learner knows of one arm of an op: what the model said at first, and the latest calls by size class.
type memory struct {
	base    Model                // its coefficients stay; drift shifts its cells
	strange bool                 // nothing is known of kernels of that name
	recent  [numVariant][]recent // sorted by class
	begun   uint32               // variants in which the arm has run
	run     []surprise           // the latest calls that were all slower, or all faster, than expected
	alert   int64                // the kernel has drifted in another op: until then fewer surprises are needed
	looked  int64                // the learner's clock at the latest probe
	moved   float64              // log: how far drift has moved the base altogether
}

// key names a cell.
type key struct {
	variant Variant
	class   int
}

// recent are the latest calls of a cell, as logarithms of measured time over roofline.
type recent struct {
	class int
	logs  [remembered]float64
	n     int   // calls ever; the latest is logs[(n-1)%remembered]
	seen  int64 // the learner's clock at the latest

	middle, spread float64 // of those remembered
	delta          float64 // from the base
}

// surprise is how far a call was from its prediction.
type surprise struct {
	key
	log float64 // measured over predicted
}

func keyOf(s *Shape) key {
	return key{s.Variant % numVariant, int(math.Round(perOctave * octaves(s.Work())))}
}

// find returns the calls of a cell, and where they are or would be in the list of the variant.
func (m *memory) find(k key) (r *recent, i int) {
	list := m.recent[k.variant]
	for i < len(list) && list[i].class < k.class {
		i++
	}
	if i < len(list) && list[i].class == k.class {
		return &list[i], i
	}
	return nil, i
}

// add remembers a call.
func (r *recent) add(log float64, now int64) {
	if now-r.seen > stale && math.Abs(log-r.middle) > 3*max(r.spread, jitter) {
		r.logs[0], r.n = r.middle, min(r.n, 1)
	}
	r.logs[r.n%remembered] = log
	r.n++
	r.seen = now
	r.middle, r.spread = centre(r.logs[:r.held()])
}

// held is how many calls are remembered.
func (r *recent) held() int { return min(r.n, remembered) }

// compare sets how far a cell's calls are from the base. While they are few a wild one counts as less wild.
func (m *memory) compare(v Variant, r *recent) {
	cells, _ := m.base.measured(v)
	r.delta = r.middle - at(cells, float64(r.class)).log
	if r.n < few && !m.strange {
		r.delta = min(max(r.delta, -wild), wild)
	}
}
