// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

//go:embed numpy_peer.py
var numpySource string

// peer is another program that times its own code on request, so that it can take turns with ours.
type peer struct {
	cmd     *exec.Cmd
	in      *bufio.Writer
	out     *bufio.Scanner
	version string // the line that it greets with
	close   func() error
}

// numpy starts a Python that has NumPy.
func numpy(python string) (*peer, error) {
	candidates := []string{"python3", "/usr/bin/python3"}
	if python != "" {
		candidates = []string{python}
	}
	var last error
	for _, c := range candidates {
		cmd := exec.Command(c, "-c", numpySource)
		cmd.Env = append(os.Environ(), "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")
		p, err := start(cmd)
		if err == nil {
			return p, nil
		}
		last = err
	}
	return nil, last
}

func start(cmd *exec.Cmd) (*peer, error) {
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
	p := &peer{cmd: cmd, in: bufio.NewWriter(in), out: bufio.NewScanner(out), close: in.Close}
	if !p.out.Scan() {
		p.stop()
		return nil, fmt.Errorf("%s ended without a greeting", cmd.Path)
	}
	p.version = p.out.Text()
	return p, nil
}

// ask returns the nanoseconds of one call of n values, the mean of a few.
func (p *peer) ask(kind string, n, repeats int) (float64, error) {
	fmt.Fprintf(p.in, "%s %d %d\n", kind, n, repeats)
	if err := p.in.Flush(); err != nil {
		return 0, err
	}
	if !p.out.Scan() {
		return 0, fmt.Errorf("%s ended", p.cmd.Path)
	}
	return strconv.ParseFloat(strings.TrimSpace(p.out.Text()), 64)
}

func (p *peer) stop() {
	p.close()
	p.cmd.Wait()
}
