// SPDX-License-Identifier: Apache-2.0

package parallel

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/mpitest"
	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// child names the check that this program is to make as a rank.
const child = "SETUN_PARALLEL_TEST_CHILD"

func TestMain(m *testing.M) {
	check, ok := map[string]func(Peers) error{"exchanges": func(p Peers) error { return errors.Join(exchanges(p), steady(p)) }, "failure": failure}[os.Getenv(child)]
	if !ok {
		os.Exit(m.Run())
	}
	p, err := Open()
	if err == nil {
		err = check(p)
	}
	if err == nil {
		err = p.Close()
		if after := p.Gather(make([]byte, p.Size()), make([]byte, 1)); err == nil && !errors.Is(after, ErrClosed) && !errors.Is(after, ErrExchange) {
			err = fmt.Errorf("exchanged after Close: %w", after)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("rank %d of %d is well\n", p.Rank(), p.Size())
}

// steady checks that an exchange allocates nothing, and that Go's own signals still work: a nil pointer is a panic that can be caught.
func steady(p Peers) error {
	caught := func() (r any) {
		defer func() { r = recover() }()
		var nothing *int
		*nothing = 1
		return nil
	}
	if r := caught(); r == nil || !strings.Contains(fmt.Sprint(r), "nil pointer") {
		return fmt.Errorf("a nil pointer gave %v", r)
	}
	all, mine, recv := make([]byte, 100*p.Size()), make([]byte, 100), make([]byte, 100*p.Size())
	f := NewForum(p)
	rt, err := runtime.Open(runtime.WithProfile(""), runtime.WithoutSaving())
	if err != nil {
		return err
	}
	defer rt.Close()
	values, coded := tensors(p.Rank(), 1), tensors(p.Rank(), 1)
	sum := NewFloats(p, values)
	codes, err := NewCodes(rt, f, coded, quant.PerRow)
	if err != nil {
		return err
	}
	a := 1.0
	step := func() {
		for i := range values {
			for j := range values[i].Grad { // sums of sums would overflow
				values[i].Grad[j], coded[i].Grad[j] = float32(j%7-3), float32(j%5-2)
			}
		}
		err = cmp.Or(err, p.Gather(all, mine), p.Exchange(recv, all), f.Mean(nil, &a), f.Same("a", 1, nil), sum.Add(0), codes.Add(0))
	}
	for range 200 { // the runtime's dispatcher learns, which takes memory
		step()
	}
	n := testing.AllocsPerRun(200, step)
	if err == nil && n != 0 && !raceEnabled {
		err = fmt.Errorf("%v allocations", n)
	}
	return err
}

// failure makes MPI return an error, after which there is nothing but errors.
func failure(p Peers) error {
	w := p.(*world)
	buffer := make([]byte, 16)
	if err := w.ask(request{w.lib.gather, "MPI_Allgather", buffer, buffer, -5}); !errors.Is(err, ErrExchange) || !strings.Contains(err.Error(), "MPI_Allgather") || !strings.Contains(strings.ToLower(err.Error()), "count") {
		return fmt.Errorf("a count of −5: %w", err)
	}
	if err := p.Gather(make([]byte, p.Size()), buffer[:1]); !errors.Is(err, ErrExchange) {
		return fmt.Errorf("after a failure: %w", err)
	}
	return nil
}

// TestMPI makes the checks as two ranks of the machine's MPI.
func TestMPI(t *testing.T) {
	for _, check := range []string{"exchanges", "failure"} {
		cmd := mpitest.Command(t, "2", os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+check)
		out, err := cmd.CombinedOutput()
		for _, says := range []string{"rank 0 of 2 is well", "rank 1 of 2 is well"} {
			if !strings.Contains(string(out), says) {
				t.Errorf("%s: %v\n%s", check, err, out)
				break
			}
		}
		if check != "failure" && err != nil { // of which mpirun says that ranks left without a word
			t.Errorf("%s: %v\n%s", check, err, out)
		}
	}
}
