// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/replay"
	"github.com/setun-compute/setun/internal/trace"
	"github.com/setun-compute/setun/runtime"
)

// policies that a trace can be replayed with, beside the name of a backend or kernel.
const allPolicies = "learn,learn-profile,prior,profile,starpu"

// replayed is how a policy did on a trace.
type replayed struct {
	Policy    string  `json:"policy"`
	Calls     int     `json:"calls"`
	TotalNs   float64 `json:"dispatcher_ns"`
	OracleNs  float64 `json:"oracle_ns"`
	Ratio     float64 `json:"ratio"`
	Geometric float64 `json:"geometric_mean"`
	Explored  float64 `json:"exploration_share"`
}

// stage is a trace with what each arm takes: as its profile says, but each call by as much slower or faster on all arms as it was, when it was recorded, on the arm that ran it.
type stage struct {
	trace   *trace.Trace
	arms    map[backends.Op][]dispatch.Arm
	profile *dispatch.Profile
	truth   *dispatch.Router
	factors []float64 // by call
}

// wildest is by how much a call may differ from its profile; further out it is an interrupt.
const wildest = 4

func newStage(t *trace.Trace, p *dispatch.Profile) (*stage, error) {
	s := &stage{trace: t, arms: map[backends.Op][]dispatch.Arm{}, profile: p}
	for _, op := range backends.Ops() {
		for _, a := range t.Arms[op.String()] {
			if _, known := p.Model(op, a); known {
				s.arms[op] = append(s.arms[op], a)
			}
		}
	}
	var err error
	if s.truth, err = dispatch.NewRouter(s.arms, p, dispatch.Policy{}); err != nil {
		return nil, err
	}
	for _, c := range t.Calls {
		shape, factor := c.Shape(), 1.0
		if i := slices.IndexFunc(s.arms[shape.Op], func(a dispatch.Arm) bool { return a.String() == c.Kernel }); i >= 0 && c.Nanos > 0 {
			factor = min(max(c.Nanos/s.truth.Predict(&shape, i).Nanos, 1./wildest), wildest)
		}
		s.factors = append(s.factors, factor*max(1, c.Parts))
	}
	return s, nil
}

// policy makes a policy of a name.
func (s *stage) policy(name string) (replay.Policy, error) {
	router := func(p *dispatch.Profile, policy dispatch.Policy) (*dispatch.Router, error) {
		return dispatch.NewRouter(s.arms, p, policy)
	}
	var r *dispatch.Router
	var err error
	switch name {
	case "learn", "prior":
		r, err = router(nil, dispatch.Policy{})
	case "learn-profile", "profile":
		r, err = router(s.profile, dispatch.Policy{})
	case "starpu":
		return replay.NewStarPU(s.truth.Open), nil
	default:
		r, err = router(s.profile, dispatch.Policy{Force: name})
	}
	if err != nil {
		return nil, exit{exitUsage, fmt.Sprintf("--policy %s: %v; policies are %s", name, err, allPolicies)}
	}
	if strings.HasPrefix(name, "learn") {
		return replay.NewLearning(r), nil
	}
	return replay.Static{Router: r}, nil
}

// play replays the trace with a policy. The noise is that of the profile, and the same in each run.
func (s *stage) play(name string, seed uint64) (replayed, error) {
	p, err := s.policy(name)
	if err != nil {
		return replayed{}, err
	}
	shapes := make([]dispatch.Shape, len(s.trace.Calls))
	for i := range shapes {
		shapes[i] = s.trace.Calls[i].Shape()
	}
	price := func(c, arm int) float64 {
		if s.truth.Open(&shapes[c])&(1<<arm) == 0 {
			return math.Inf(1)
		}
		return s.factors[c] * s.truth.Predict(&shapes[c], arm).Nanos
	}
	g := replay.Game{Calls: len(shapes), Price: price,
		Shape: func(c int) dispatch.Shape { return shapes[c] },
		Arms:  func(c int) int { return len(s.arms[shapes[c].Op]) },
		Clock: func(c, arm int) float64 {
			x := s.truth.Predict(&shapes[c], arm)
			r := rand.New(rand.NewPCG(seed, uint64(c)<<8|uint64(arm)))
			return price(c, arm) * math.Exp(x.Spread/x.Nanos*r.NormFloat64())
		}}
	score := g.Play(p)
	x := replayed{Policy: name, Calls: score.Calls, TotalNs: score.TotalNs, OracleNs: score.OracleNs, Ratio: score.Ratio(), Geometric: score.Geometric}
	if l, ok := p.(*replay.Learning); ok {
		if cost, all := l.Exploration(); all > 0 {
			x.Explored = cost / all
		}
	}
	return x, nil
}

// replayTrace plays a trace with each policy and prints how they did.
func replayTrace(ctx context.Context, env *environment, path, profilePath, names string, seed uint64) error {
	t, err := readTrace(path)
	if err != nil {
		return err
	}
	if profilePath == "" {
		if profilePath, err = runtime.ProfilePath(); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(profilePath)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: what the kernels take is read from the profile of the machine that the trace is from: calibrate run, or --profile FILE", err)
	}
	if err != nil {
		return err
	}
	p, err := dispatch.DecodeProfile(data, t.Fingerprint)
	if err != nil {
		return fmt.Errorf("%s and %s do not belong together: %w", profilePath, path, err)
	}
	s, err := newStage(t, p)
	if err != nil {
		return err
	}
	if t.Torn {
		fmt.Fprintf(env.err, "the last line of %s is cut off and left out\n", path)
	}
	if t.More {
		fmt.Fprintf(env.err, "%s goes on: the first %d calls are read\n", path, len(t.Calls))
	}
	var list []replayed
	for _, name := range strings.Split(names, ",") {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := s.play(name, seed)
		if err != nil {
			return err
		}
		if x.Calls == 0 {
			return fmt.Errorf("%s: no call that %s can run", path, name)
		}
		list = append(list, x)
	}
	if *env.json {
		return env.printJSON(struct {
			Trace    string     `json:"trace"`
			Machine  string     `json:"machine"`
			Calls    int        `json:"calls"`
			Policies []replayed `json:"policies"`
		}{path, t.Machine, len(t.Calls), list})
	}
	fmt.Fprintf(env.out, "%d calls, recorded on %s\n\n%-24s %8s %10s %10s %7s %9s %9s\n", len(t.Calls), t.Machine, "policy", "calls", "total", "oracle", "ratio", "per call", "explored")
	for _, x := range list {
		fmt.Fprintf(env.out, "%-24s %8d %10s %10s %7.3f %9.3f %8.2f%%\n", x.Policy, x.Calls, dispatch.Duration(x.TotalNs), dispatch.Duration(x.OracleNs), x.Ratio, x.Geometric, 100*x.Explored)
	}
	return nil
}
