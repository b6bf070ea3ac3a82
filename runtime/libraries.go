// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"slices"
	"sync"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/backends/cpp"
	"github.com/setun-compute/setun/backends/cuda"
	simdc "github.com/setun-compute/setun/backends/simd_c"
	"github.com/setun-compute/setun/internal/plugin"
)

// addNative loads Setun's own libraries, and with fast numerics a BLAS, which it returns, all at once: one that was not tried before waits for a process that tries it, and Open takes as long as the slowest of them.
func (rt *Runtime) addNative(c *config, places []plugin.Place, cores int) (system found, err error) {
	var simd, threads, devices found
	var all sync.WaitGroup
	all.Go(func() { simd.one(simdc.Open(places, c.isa)) })
	all.Go(func() { threads.one(cpp.Open(places, c.isa, cpp.Useful(cores))) })
	if c.fast {
		all.Go(func() {
			b, tried := blas.Open(c.blas, rt.guard)
			if system.tried = tried; b != nil {
				system.list = []backends.Backend{b}
			}
		})
	}
	if c.isa == "" || c.asked { // a test of one instruction set level has no device unless it asks
		devices.list, devices.tried = cuda.Open(places, c.cuda, cuda.Fast{Wanted: c.fast, CUBLAS: c.cublas})
	}
	all.Wait()
	rt.addFound(simd)
	rt.addFound(threads)
	rt.addDevices(devices)
	for _, f := range []found{simd, threads, devices, system} {
		if err := c.refused(f.tried); err != nil {
			return system, err
		}
	}
	return system, nil
}

// addFound adds the backend of a library that has one.
func (rt *Runtime) addFound(f found) {
	if len(f.list) == 0 {
		rt.add(nil, f.tried)
	}
	for _, b := range f.list {
		rt.add(b, f.tried)
	}
}

// found is what became of a library.
type found struct {
	list  []backends.Backend
	tried []plugin.Attempt
}

func (f *found) one(b backends.Backend, tried []plugin.Attempt) {
	if f.tried = tried; b != nil {
		f.list = []backends.Backend{b}
	}
}

// addDevices adds the backends of CUDA devices, each of which has a line in the report.
func (rt *Runtime) addDevices(f found) {
	rt.add(nil, f.tried)
	for _, b := range f.list {
		rt.take(b, slices.IndexFunc(rt.report.Backends, func(r BackendReport) bool { return r.Name == b.Name() && r.State == string(plugin.Loaded) }))
	}
}
