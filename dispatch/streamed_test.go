// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"testing"

	"github.com/setun-compute/setun/backends"
)

// Points that no device holds are moved for every iteration, and a list's centroids are those of all its problems.
func TestKMeansThatIsMore(t *testing.T) {
	arms := map[backends.Op][]Arm{backends.OpKMeans: {{Backend: "cpu", Kernel: "go"}, {Backend: "cuda", Kernel: "cuda", Memory: 1}}}
	p := &Profile{Links: []Link{{Memory: 1, Up: 0.25, Down: 0.25}}}
	p.Set(backends.OpKMeans, arms[backends.OpKMeans][0], Model{Coef: Coef{0, 1}})
	p.Set(backends.OpKMeans, arms[backends.OpKMeans][1], Model{Coef: Coef{0, 0, 0, 3}}) // nothing but centroids
	r, err := NewRouter(arms, p, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	s := KMeans(1_000_000, 4, 8)
	held := r.Decide(&s, 0)
	s.Variant |= Streamed
	streamed := r.Decide(&s, 0)
	if held.Arm != 1 || streamed.Arm != 1 || streamed.Moving < 9.9*held.Moving || streamed.Moving > 10.1*held.Moving {
		t.Errorf("moving takes %v of an iteration, and %v where nothing stays", held.Moving, streamed.Moving)
	}
	many := KMeansMany(1_000_000, 4, 8, 1000)
	if got := many.features(); got[3] != 1000*4*8 || many.Work() != s.Work() || !many.Listed() || s.Listed() || many.String() != "1000000x4x8 in 1000 problems" {
		t.Errorf("%v, %v, %s", got, many.Work(), many.String())
	}
	if product := MatMul(2, 2, 2, 3); product.Listed() {
		t.Error("a product is a list")
	}
}
