// SPDX-License-Identifier: Apache-2.0

//go:build linux

package parallel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/setun-compute/setun/internal/raisedtest"
)

// A program with privileges that its user lacks loads no MPI, whatever the user's environment says.
func TestRaised(t *testing.T) {
	const variable = "SETUN_PARALLEL_TEST_RAISED"
	if os.Getenv(variable) != "" {
		p, err := Open()
		fmt.Printf("alone=%v unsupported=%v library=%v: %v\n", p == Peers(Alone{}), errors.Is(err, ErrUnsupported), errors.Is(err, ErrLibrary), err)
		os.Exit(0)
	}
	dir := raisedtest.Folder(t)
	for _, c := range []struct {
		raised      bool
		environment string
		want        string
	}{
		{false, "SETUN_MPI=mine.so OMPI_COMM_WORLD_SIZE=2", "alone=false unsupported=false library=true: parallel: SETUN_MPI"},
		{true, "SETUN_MPI=mine.so OMPI_COMM_WORLD_SIZE=2", "alone=false unsupported=true library=false: parallel: the environment says"},
		{true, "SETUN_MPI=none OMPI_COMM_WORLD_SIZE=2", "alone=false unsupported=true library=false: parallel: the environment says"},
		{true, "OMPI_COMM_WORLD_SIZE=2", "alone=false unsupported=true library=false: parallel: the environment says"},
		{true, "SETUN_MPI=mine.so", "alone=true unsupported=false library=false: <nil>"},
	} {
		if said := raisedtest.Run(t, dir, t.Name(), c.raised, append(strings.Fields(c.environment), variable+"=1")...); !strings.HasPrefix(said, c.want) {
			t.Errorf("%+v: %s", c, said)
		}
	}
}
