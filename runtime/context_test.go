// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
)

func TestCloseAndConcurrentUse(t *testing.T) {
	rt := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			x := ramp(1000)
			for {
				if _, err := rt.Norm2(x); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("%v", err)
					}
					return
				}
			}
		})
	}
	for calls := int64(0); calls < 100; {
		rt.Explain(dispatch.Vector(backends.OpNorm2, 1000))
		calls = 0
		for _, m := range rt.Metrics() {
			calls += m.Calls
		}
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := rt.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestContextStopsALongCall(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x := ramp(10_000_000)
	for name, rt := range map[string]*Runtime{"pure Go": open(t, WithoutNative()), "best": open(t)} {
		if _, err := rt.QuantizeContext(ctx, nil, x[:1], quant.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a short quantize: %v", name, err)
		}
		if _, _, err := rt.ConstrainContext(ctx, nil, x[:1], 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a short constrain: %v", name, err)
		}
		if _, err := rt.QuantizeContext(ctx, nil, x, quant.Options{Rule: quant.LeastSquares}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: quantize: %v", name, err)
		}
		if _, err := rt.KMeans(ctx, nil, x, 10, KMeansOptions{K: 50}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: kmeans: %v", name, err)
		}
	}
}

func TestContextEndsDuringACall(t *testing.T) {
	x := ramp(20_000_000)
	rt := open(t, WithoutNative()) // some hundred milliseconds of rounds
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := rt.QuantizeContext(ctx, nil, x, quant.Options{Rule: quant.LeastSquares}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}
