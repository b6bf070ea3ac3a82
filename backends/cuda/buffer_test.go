// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
)

// Calls that change a buffer in place where it is, on the device alone, while a function of the driver fails: the result is right, or the call says that it is not.
func TestBuffersFail(t *testing.T) {
	faking(t)
	d := &data{r: random(9)}
	x, y, w := values(d, 2000), values(d, 2000), values(d, 2000)
	ops := map[string]func(a, b, c *runtime.Buffer) error{
		"constrain": func(a, _, _ *runtime.Buffer) error {
			_, err := a.Constrain(context.Background(), nil, 2)
			return err
		},
		"step": func(a, b, _ *runtime.Buffer) error {
			_, _, err := a.Step(context.Background(), nil, b, 2, quant.Options{})
			return err
		},
		"matmul": func(a, b, c *runtime.Buffer) error {
			return a.MatMul(context.Background(), b, c, 40, 50, 40, runtime.MatMulOptions{Accumulate: true})
		},
	}
	for name, op := range ops {
		run := func(rt *runtime.Runtime, fault func()) (result []float32, err error) {
			var buffers [3]*runtime.Buffer
			for i, v := range [][]float32{x, y, w} {
				n := len(v)
				if name == "matmul" && i == 1 {
					n = 40 * 40
				}
				if buffers[i], err = rt.NewBuffer(n); err == nil {
					err = buffers[i].Write(v[:n])
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := op(buffers[0], buffers[1], buffers[2]); err != nil { // and now they are on the device
				t.Fatal(err)
			}
			fault()
			if err = op(buffers[0], buffers[1], buffers[2]); err != nil {
				return nil, err
			}
			result = make([]float32, len(x))
			return result, buffers[0].Read(result)
		}
		pure, err := runtime.Open(runtime.WithoutNative(), runtime.WithProfile(""), runtime.WithoutSaving())
		if err != nil {
			t.Fatal(err)
		}
		want, err := run(pure, func() {})
		if err != nil {
			t.Fatal(err)
		}
		pure.Close()
		count, failed := 0, 0
		for _, function := range []string{"cuCtxSetCurrent", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async", "cuStreamQuery", "cuLaunchKernel"} {
			for nth := 1; nth <= 4; nth++ {
				for _, code := range []int32{1, 2, 999} {
					rt := routed(t)
					got, err := run(rt, func() { fake.fault(function, nth, code) })
					fake.fault(function, 0, 0)
					where := fmt.Sprintf("%s: %s:%d:%d", name, function, nth, code)
					switch count++; {
					case err != nil:
						if failed++; !errors.Is(err, runtime.ErrBackend) {
							t.Errorf("%s: %v", where, err)
						}
					case !slices.Equal(got, want):
						t.Errorf("%s: not the bits of pure Go", where)
					}
					if err := rt.Close(); err != nil {
						t.Error(err)
					}
					closed(t, where, nil)
				}
			}
		}
		t.Logf("%s: %d calls, %d failed", name, count, failed)
	}
}
