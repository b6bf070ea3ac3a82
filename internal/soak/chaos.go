// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

// openVictim opens a runtime whose calls go to the flaky backend as long as that is well, in place of the one before.
func (t *test) openVictim() error {
	table := dispatch.Fixed{Schema: dispatch.FixedSchema, Ops: map[string][]dispatch.FixedRow{}}
	for _, op := range backends.Ops() {
		table.Ops[op.String()] = []dispatch.FixedRow{{From: 0, Kernel: "flaky/k"}}
	}
	text, err := json.Marshal(table)
	path := filepath.Join(t.Folder, "thresholds.json")
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return err
	}
	v, err := setun.Open(setun.WithoutNative(), setun.WithProfile("none"), setun.WithoutLearning(), setun.WithBackend(t.flaky), setun.WithThresholds(path))
	if err != nil {
		return err
	}
	if old := t.victim.Swap(v); old != nil { // in the midst of calls: those find it closed
		if err := old.Close(); err != nil && !errors.Is(err, setun.ErrBlocked) {
			return err
		}
	}
	return nil
}

// chaos makes something fail every now and then.
func (t *test) chaos(ctx context.Context, r *rand.Rand) {
	faults := []struct {
		name string
		do   func() error
	}{
		{"F15 calls fail", func() error { t.flaky.fault(fmt.Errorf("chaos: %w", backends.ErrBackend), 1+r.Int64N(40)); return nil }},
		{"F16 out of memory", func() error { t.flaky.fault(fmt.Errorf("chaos: %w", backends.ErrMemory), 1+r.Int64N(200)); return nil }},
		{"F17 a call hangs", func() error { return t.hang() }},
		{"F18 device lost", func() error {
			t.flaky.fault(fmt.Errorf("chaos: %w", backends.ErrLost), 1)
			return nil
		}},
		{"F19 opened anew, F26 closed during calls", t.openVictim},
		{"F21 profile spoiled", func() error { return spoil(filepath.Join(t.Folder, "profile.json"), r) }},
		{"F22 profile cannot be written", func() error { return t.blockProfile(ctx) }},
		{"F21 quarantine spoiled", func() error { return spoil(filepath.Join(t.Folder, "state", "quarantine.json"), r) }},
		{"F21 verdicts spoiled", func() error { return spoil(filepath.Join(t.Folder, "state", "probes.json"), r) }},
	}
	for tick := time.NewTicker(t.Every); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		f := faults[r.IntN(len(faults))]
		if err := f.do(); err != nil {
			t.tell("%s: %v", f.name, err)
		}
		t.mutex.Lock()
		t.faults[f.name]++
		t.mutex.Unlock()
	}
}

// hang makes a call that does not return, and whose caller must.
func (t *test) hang() error {
	v := t.victim.Load()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	t.flaky.hang.Store(1)
	_, err := v.QuantizeContext(ctx, nil, make([]float32, 1000), quant.Options{})
	t.flaky.hang.Store(0)
	if err != nil && !expected(err) {
		return err
	}
	return t.openVictim() // it has lost an op for good
}

// spoil writes what nobody should believe in the place of a file, or takes it away.
func spoil(path string, r *rand.Rand) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	switch kind := r.IntN(5); {
	case kind == 0:
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	case kind == 1 && len(text) > 0:
		text = text[:r.IntN(len(text))]
	case kind == 2 && len(text) > 0:
		text[r.IntN(len(text))] ^= 1 << r.IntN(8)
	case kind == 3:
		text = make([]byte, 2<<20)
	default:
		text = []byte(`{"setun_profile": 1e308, "entries": [{"op": null}]}`)
	}
	return os.WriteFile(path, text, 0o600)
}

// blockProfile has a folder in the profile's place for a while, where no file can be written.
func (t *test) blockProfile(ctx context.Context) error {
	path := filepath.Join(t.Folder, "profile.json")
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil // a save was faster
	}
	select {
	case <-ctx.Done():
	case <-time.After(t.Every / 2):
	}
	return os.RemoveAll(path)
}

// comings opens runtimes that read and write the files that are being spoiled, calls them from several goroutines, and closes them in the midst of that.
func (t *test) comings(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		rt, err := setun.Open(append(slices.Clone(t.Open), setun.WithProfile(filepath.Join(t.Folder, "profile.json")))...)
		if err != nil {
			t.tell("open: %v", err)
			return
		}
		var all sync.WaitGroup
		for range 4 {
			own := rand.New(rand.NewPCG(r.Uint64(), 3))
			all.Go(func() {
				for range 200 {
					t.call(rt, t.jobs[own.IntN(len(t.jobs))], own)
				}
			})
		}
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		if err := rt.Close(); err != nil && !errors.Is(err, os.ErrExist) {
			t.mutex.Lock()
			t.faults["a profile was not saved, and Close said so"]++
			t.mutex.Unlock()
		}
		all.Wait()
	}
}
