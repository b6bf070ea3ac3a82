// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/setun-compute/setun/backends"
	setun "github.com/setun-compute/setun/runtime"
)

// env is what the contenders of all cases share. Peers that are not there are nil.
type env struct {
	threads                            int
	arms                               bool
	least                              int       // threads that an arm has to use to be listed
	x                                  []float32 // the data, the same for all
	rt                                 *setun.Runtime
	kernel                             string // that ran last in rt
	numpy, sklearn, faiss, loops, ggml *peer
	peers, missing                     []string // greetings, and why others are left out
}

// newEnv opens the runtime, starts the peers and gives all of them the same n values.
func newEnv(o options, n int) (*env, error) {
	e := &env{threads: o.threads, arms: o.arms, x: pages[float32](n)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range e.x {
		e.x[i] = float32(r.NormFloat64())
	}
	rt, err := setun.Open(setun.WithObserver(func(v setun.Event) { e.kernel = v.Kernel }))
	if err != nil {
		return nil, err
	}
	e.rt = rt
	path, err := e.write()
	if err != nil {
		e.close()
		return nil, err
	}
	defer os.Remove(path)
	for _, f := range []struct {
		name string
		peer **peer
	}{{"numpy", &e.numpy}, {"sklearn", &e.sklearn}, {"faiss", &e.faiss}} {
		p, err := family(f.name, pythons(o.python), o.threads)
		if err == nil {
			if err = p.load(path, n); err != nil {
				p.stop()
			}
		}
		if err != nil {
			e.missing = append(e.missing, fmt.Sprintf("%s: %v", f.name, err))
			continue
		}
		*f.peer = p
		e.peers = append(e.peers, p.greeting)
	}
	if e.loops, err = start(exec.Command(o.loops)); err != nil {
		e.missing = append(e.missing, fmt.Sprintf("plain C loops (make native builds them): %v", err))
	} else {
		e.peers = append(e.peers, e.loops.greeting)
	}
	switch {
	case o.ggml == "":
		e.missing = append(e.missing, "ggml: no library was given (-ggml /path/to/libggml-cpu.so)")
	default:
		if e.ggml, err = start(exec.Command(filepath.Join(filepath.Dir(o.loops), "peer_ggml"), o.ggml)); err != nil {
			e.missing = append(e.missing, fmt.Sprintf("ggml: %v", err))
		} else {
			e.peers = append(e.peers, e.ggml.greeting)
		}
	}
	return e, nil
}

// write puts the data in a file for the peers.
func (e *env) write() (path string, err error) {
	f, err := os.CreateTemp("", "setun-bench-*.f32")
	if err != nil {
		return "", err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err = binary.Write(w, binary.NativeEndian, e.x); err == nil {
		err = w.Flush()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return filepath.Abs(f.Name())
}

func (e *env) close() {
	for _, p := range []*peer{e.numpy, e.sklearn, e.faiss, e.loops, e.ggml} {
		if p != nil {
			p.stop()
		}
	}
	e.rt.Close()
}

// ours are the runtime's own choice and, with -arms, each kernel that needs no more than the threads of the run. done closes them.
func (e *env) ours(op backends.Op, prepare func(*setun.Runtime) (func() (times, error), error)) (cs []*contender, done func(), err error) {
	var open []*setun.Runtime
	done = func() {
		for _, rt := range open {
			rt.Close()
		}
	}
	turn, err := prepare(e.rt)
	if err != nil {
		return nil, nil, err
	}
	c := &contender{who: ours, own: true}
	c.turn = func() (times, error) {
		t, err := turn()
		c.note = e.kernel
		return t, err
	}
	cs = append(cs, c)
	for _, arm := range e.rt.Arms(op) {
		if !e.arms || arm.Threads > e.threads || max(1, arm.Threads) < e.least {
			continue
		}
		rt, err := setun.Open(setun.WithForce(arm.String()), setun.WithProfile(""))
		if err != nil {
			done()
			return nil, nil, err
		}
		open = append(open, rt)
		turn, err := prepare(rt)
		if err != nil {
			done()
			return nil, nil, err
		}
		cs = append(cs, &contender{who: arm.String(), own: true, turn: turn})
	}
	return cs, done, nil
}

// asks is a contender that is one request to a peer.
func (e *env) asks(who string, p *peer, request string, args ...any) *contender {
	return &contender{who: who, less: sameWork, turn: func() (times, error) { return p.ask(request, args...) }}
}

// loop is the plain C loop with the memory traffic of an op; none when the loops are not there.
func (e *env) loop(kind string, n int) []*contender {
	if e.loops == nil {
		return nil
	}
	c := e.asks("C loop", e.loops, "%s %d %d %d", kind, n, e.threads, repeats(n))
	c.ceiling = true
	return []*contender{c}
}

// peak is the time that the work would take at the rate of multiply-adds in registers, as measured at each turn.
func (e *env) peak(work float64, figures ...string) []*contender {
	if e.loops == nil {
		return nil
	}
	sample := 1e9 * float64(e.threads) // some 10 ms: less would measure the start of the threads
	return []*contender{{who: "FMA peak", ceiling: true, turn: func() (times, error) {
		t, err := e.loops.ask("fma %.0f %d 1", sample, e.threads)
		if err != nil {
			return nil, err
		}
		scaled := times{}
		for _, f := range figures {
			scaled[f] = t[figureCall] * work / sample
		}
		return scaled, nil
	}}}
}
