// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/runtime"
)

// blocks into which a workload is cut: the dispatcher and the best single arm take turns at each, and the table is filled in between, so that all share what else goes on.
const blocks = 10

// game is a workload that is being played.
type game struct {
	workload
	*world
	jobs    []job
	rt      *runtime.Runtime // the dispatcher's
	tables  [2]*table        // as it is, and slowed
	choices [2][][]int       // by table, job and arm: calls
	picked  []int            // by call: the arm
}

// run plays a workload, and prices what was chosen.
func (w workload) run(ctx context.Context, d *data, world *world, jobs []job, calls int, r *rand.Rand, step func(job)) (loss, error) {
	profile := world.profile
	if w.cold {
		profile = ""
	}
	rt, err := runtime.Open(append(slices.Clone(world.options), runtime.WithForce(""), runtime.WithProfile(profile), runtime.WithoutSaving())...)
	if err != nil {
		return loss{}, err
	}
	defer rt.Close()
	g := &game{workload: w, world: world, jobs: jobs, rt: rt, tables: [2]*table{newTable(jobs), newTable(jobs)}}
	for i := range g.choices {
		for _, j := range jobs {
			g.choices[i] = append(g.choices[i], make([]int, len(rt.Arms(j.shape.Op))))
		}
	}
	sequence := make([]int, calls)
	for c := range sequence {
		sequence[c] = w.draw(r, c, calls, len(jobs))
	}
	if err := g.tables[0].add(ctx, d, g.field, checkEffort, nil, step); err != nil { // tells which single arm is to play
		return loss{}, err
	}
	rival := g.priced(sequence, func(int) *table { return g.tables[0] }).BestArm
	own := newPlayer(d, jobs, w.callers, func(int) *runtime.Runtime { return rt })
	best := newPlayer(d, jobs, w.callers, func(i int) *runtime.Runtime { return g.single(rival, i) })
	for _, f := range slices.Concat(best.do...) { // pages and buffers are there, for both
		if _, err := f(); err != nil {
			return loss{}, err
		}
	}
	for block := range blocks {
		part := sequence[calls*block/blocks : calls*(block+1)/blocks]
		which := 0
		if g.slowAt(block) {
			which = 1
		}
		g.set(which == 1)
		turns := []func() error{
			func() error {
				return own.play(ctx, part, w.callers, func(i int) {
					arm := max(0, rt.Decide(&jobs[i].shape).Arm)
					g.choices[which][i][arm]++
					g.picked = append(g.picked, arm)
				})
			},
			func() error { return best.play(ctx, part, w.callers, func(int) {}) },
		}
		if r.IntN(2) == 0 { // whoever comes before leaves caches and threads in some state
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			if err := turn(); err != nil {
				return loss{}, err
			}
		}
		if err := g.tables[which].add(ctx, d, g.field, checkEffort, nil, step); err != nil {
			return loss{}, err
		}
	}
	g.set(false)
	l := g.priced(sequence, func(call int) *table {
		if g.slowAt(call * blocks / calls) {
			return g.tables[1]
		}
		return g.tables[0]
	})
	x := rt.Learning()
	if x.Time > 0 {
		l.Exploration, l.Learned = float64(x.Explored)/float64(x.Time), x.Learned
		l.ExploredNs, l.LearningNs = float64(x.Explored), float64(x.Spent)
	}
	l.LiveNs, l.LiveBestNs = own.total(), best.total()
	l.Live = l.LiveNs / l.LiveBestNs
	g.score(&l)
	l.Recovered = g.recovered(sequence)
	return l, nil
}

// slowAt says whether the arm is slow in a block.
func (w *workload) slowAt(block int) bool { return w.slow != nil && w.slow(float64(block)/blocks) }

// single is the runtime that plays a job if everything goes to one arm: that arm's, or the oracle's choice for an op that the arm lacks.
func (g *game) single(arm string, i int) *runtime.Runtime {
	arms := g.field.all.Arms(g.jobs[i].shape.Op)
	if slices.ContainsFunc(arms, func(a dispatch.Arm) bool { return a.String() == arm }) {
		return g.field.forced[arm]
	}
	return g.field.forced[arms[g.tables[0].best(arms, i)].String()]
}

// priced adds up what the oracle and each single arm take for a sequence, by the tables.
func (g *game) priced(sequence []int, tableAt func(call int) *table) loss {
	l := loss{Workload: g.name, Calls: len(sequence), Arms: map[string]float64{}, BestArmNs: math.Inf(1)}
	for c, i := range sequence {
		t := tableAt(c)
		arms := g.field.all.Arms(g.jobs[i].shape.Op)
		best := t.score[i][t.best(arms, i)]
		l.OracleNs += best
		for _, name := range armNames(g.field) {
			if isFast(g.field, name) {
				continue
			}
			k := slices.IndexFunc(arms, func(a dispatch.Arm) bool { return a.String() == name })
			if k < 0 || t.score[i][k] == never {
				l.Arms[name] += best
			} else {
				l.Arms[name] += t.score[i][k]
			}
		}
	}
	for name, ns := range l.Arms {
		if ns < l.BestArmNs || ns == l.BestArmNs && name < l.BestArm {
			l.BestArm, l.BestArmNs = name, ns
		}
	}
	return l
}

// score adds up what the dispatcher's choices take by the tables, and what exploring and learning cost beside.
func (g *game) score(l *loss) {
	l.DispatcherNs = l.ExploredNs + l.LearningNs
	logs, calls := 0.0, 0
	for which := range g.tables {
		t := g.tables[which]
		for i, counts := range g.choices[which] {
			arms := g.field.all.Arms(g.jobs[i].shape.Op)
			for k, n := range counts {
				if n == 0 {
					continue
				}
				best := t.best(arms, i)
				took, least := float64(n)*t.score[i][k], float64(n)*t.score[i][best]
				l.DispatcherNs += took
				logs += float64(n) * math.Log(took/least)
				calls += n
				if k != best {
					l.Misses = append(l.Misses, miss{g.jobs[i].shape.Op.String(), g.jobs[i].shape.String(), arms[k].String(), arms[best].String(), n, took - least})
				}
			}
		}
	}
	slices.SortFunc(l.Misses, func(a, b miss) int { return cmp.Or(cmp.Compare(b.LostNs, a.LostNs), cmp.Compare(a.Shape, b.Shape)) })
	l.Misses = l.Misses[:min(5, len(l.Misses))]
	if g.callers > 1 { // tables are of calls alone
		l.DispatcherNs, l.OracleNs, l.BestArmNs = l.LiveNs, l.LiveBestNs, l.LiveBestNs
	}
	l.OracleNs = min(l.OracleNs, l.BestArmNs) // chosen by one half of the repeats, the best arms may lose to a single one in the other
	if l.Ratio, l.OverBestArm = l.DispatcherNs/l.OracleNs, l.DispatcherNs/l.BestArmNs; calls > 0 {
		l.Geometric = math.Exp(logs / float64(calls))
	}
}

// recovered tells for each change of the slowed arm after how many calls the next 200 took at most 1.05 of the oracle's time, by the tables; −1: not before the next change.
func (g *game) recovered(sequence []int) (after []int) {
	const next, enough = 200, 1.05
	calls := len(sequence)
	if g.slow == nil || len(g.picked) < calls {
		return nil
	}
	for block := 1; block < blocks; block++ {
		if g.slowAt(block) == g.slowAt(block-1) {
			continue
		}
		from, to := calls*block/blocks, calls*(block+1)/blocks
		for b := block + 1; b < blocks && g.slowAt(b) == g.slowAt(block); b++ {
			to = calls * (b + 1) / blocks
		}
		t := g.tables[0]
		if g.slowAt(block) {
			t = g.tables[1]
		}
		found := -1
		for m := from; m+next <= to && found < 0; m++ {
			took, least := 0.0, 0.0
			for c := m; c < m+next; c++ {
				i := sequence[c]
				took += t.score[i][g.picked[c]]
				least += t.score[i][t.best(g.field.all.Arms(g.jobs[i].shape.Op), i)]
			}
			if took <= enough*least {
				found = m - from
			}
		}
		after = append(after, found)
	}
	return after
}

func (m miss) String() string {
	s := fmt.Sprintf("%d of %s %s on %s, best %s: %s", m.Calls, m.Op, m.Shape, m.Chosen, m.Best, dispatch.Duration(m.LostNs))
	return s
}
