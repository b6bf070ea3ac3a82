// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

//go:embed peers.py
var pythonSource string

// errPeer is wrapped by what a peer answers instead of figures.
var errPeer = errors.New("peer")

// peer is another program that times its own code on request, so that it can take turns with ours.
type peer struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
	greeting string // what it runs, with versions
}

// pythons are the interpreters to try, best first.
func pythons(flag string) []string {
	if flag != "" {
		return []string{flag}
	}
	list := []string{"python3", "/usr/bin/python3"}
	if p := os.Getenv("SETUN_BENCH_PYTHON"); p != "" {
		list = append([]string{p}, list...)
	}
	return list
}

// family starts a Python that has the packages of a family of peers: "numpy", "sklearn" or "faiss".
func family(name string, candidates []string, threads int) (*peer, error) {
	var all []error
	for _, c := range candidates {
		cmd := exec.Command(c, "-c", pythonSource, name)
		cmd.Env = os.Environ()
		for _, v := range []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"} {
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", v, threads))
		}
		p, err := start(cmd)
		if err == nil {
			return p, nil
		}
		all = append(all, fmt.Errorf("%s: %w", c, err))
	}
	return nil, errors.Join(all...)
}

// start runs a program and waits for its greeting.
func start(cmd *exec.Cmd) (*peer, error) {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	if !p.out.Scan() {
		p.stop()
		lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("%w: no greeting: %s", errPeer, lines[len(lines)-1])
	}
	p.greeting = p.out.Text()
	return p, nil
}

// line sends a request and returns the answer.
func (p *peer) line(request string) (string, error) {
	if _, err := io.WriteString(p.in, request+"\n"); err != nil {
		return "", fmt.Errorf("%w: %s: %w", errPeer, request, err)
	}
	if !p.out.Scan() {
		return "", fmt.Errorf("%w: %s: the process ended", errPeer, request)
	}
	answer := p.out.Text()
	if text, failed := strings.CutPrefix(answer, "error "); failed {
		return "", fmt.Errorf("%w: %s: %s", errPeer, request, text)
	}
	return answer, nil
}

// load has the peer take n values from a file.
func (p *peer) load(path string, n int) error {
	answer, err := p.line(fmt.Sprintf("load %s %d", path, n))
	if err == nil && answer != "ready" {
		err = fmt.Errorf("%w: load: %q instead of ready", errPeer, answer)
	}
	return err
}

// ask returns the figures of one turn.
func (p *peer) ask(request string, args ...any) (times, error) {
	answer, err := p.line(fmt.Sprintf(request, args...))
	if err != nil {
		return nil, err
	}
	return parse(answer)
}

// parse reads "figure=value figure=value".
func parse(answer string) (times, error) {
	t := times{}
	for _, f := range strings.Fields(answer) {
		name, value, ok := strings.Cut(f, "=")
		v, err := strconv.ParseFloat(value, 64)
		if !ok || name == "" || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%w: %q is not a figure", errPeer, f)
		}
		t[name] = v
	}
	if len(t) == 0 {
		return nil, fmt.Errorf("%w: an empty answer", errPeer)
	}
	return t, nil
}

// stop ends the process: it sees the end of its input.
func (p *peer) stop() {
	p.in.Close()
	p.cmd.Wait()
}
