// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"testing"

	"github.com/setun-compute/setun/internal/gputest"
)

func TestLinksAreThoseOfTheDevices(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if links, err := open(t, WithoutNative()).Links(ctx); err != nil || links != nil {
		t.Errorf("without a device: %v, %v", links, err)
	}
	g := gputest.New()
	rt := open(t, WithoutNative(), WithBackend(g))
	links, err := rt.Links(ctx)
	if err != nil || len(links) != 1 || links[0].Memory != 1 || !(links[0].Launch > 0 && links[0].Up >= 0 && links[0].Down >= 0) {
		t.Errorf("%+v, %v", links, err)
	}
	if g.Buffers() != 0 {
		t.Error("memory of the device was kept")
	}
	cancel()
	if _, err := rt.Links(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
