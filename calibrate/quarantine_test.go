// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/setun-compute/setun/internal/quarantine"
)

func TestQuarantineCommand(t *testing.T) {
	t.Setenv(quarantine.StateVariable, t.TempDir())
	t.Setenv("SETUN_PROFILE", "none")
	if code, out, stderr := calibrate("quarantine"); code != 0 || !strings.Contains(out, "nothing is quarantined") {
		t.Errorf("empty: code %d, %q, %q", code, out, stderr)
	}
	folder, _ := quarantine.Folder()
	store := quarantine.At(folder)
	for n := range 3 {
		store.Add(quarantine.Library{Digest: fmt.Sprintf("%064x", n+1), File: fmt.Sprintf("lib%d.so", n), Machine: "0123456789abcdef", Contract: "abi 1"}, quarantine.Load, "it crashed")
	}
	code, out, stderr := calibrate("quarantine")
	if code != 0 || strings.Count(out, "quarantined") != 6 || !strings.Contains(out, "lib1.so") || !strings.Contains(out, "it crashed") || !strings.Contains(out, "calibrate quarantine lift 000000000000") {
		t.Errorf("list: code %d, %q, %q", code, out, stderr)
	}
	suspect := `{"format": "setun suspects 1", "entries": [{"digest": "` + strings.Repeat("0", 64) + `", "file": "lib9.so", "machine": "0123456789abcdef", "contract": "abi 1", "op": "dot", "kernel": "avx2", "pid": 77, "variant": 0, "sizes": [4096, 0, 0, 0, 0, 0, 0], "count": 1, "time": "` + time.Now().UTC().Format(time.RFC3339) + `"}]}`
	if err := os.WriteFile(filepath.Join(folder, "suspects.json"), []byte(suspect), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr = calibrate("doctor"); !strings.Contains(out, "lib2.so") || !strings.Contains(out, "ended     process 77 ended while it was in dot/avx2 of lib9.so on 4096") {
		t.Errorf("doctor: code %d, %q, %q", code, out, stderr)
	}
	for _, args := range [][]string{{"quarantine", "lift"}, {"quarantine", "drop", "all"}, {"quarantine", "lift", "all", "more"}} {
		if code, out, stderr := calibrate(args...); code != exitUsage || out != "" || stderr == "" {
			t.Errorf("%v: code %d, %q, %q", args, code, out, stderr)
		}
	}
	if code, _, stderr := calibrate("quarantine", "lift", "abc"); code != 1 || !strings.Contains(stderr, "abc") {
		t.Errorf("lift what is not there: code %d, %q", code, stderr)
	}
	if code, out, stderr := calibrate("quarantine", "lift", fmt.Sprintf("%064x", 2)); code != 0 || !strings.Contains(out, "lifted") || !strings.Contains(out, "lib1.so") {
		t.Errorf("lift: code %d, %q, %q", code, out, stderr)
	}
	code, out, stderr = calibrate("quarantine", "--json", "lift", "all")
	var q quarantined
	if err := json.Unmarshal([]byte(out), &q); code != 0 || err != nil || len(q.Lifted) != 2 || len(q.Entries) != 0 || q.Path == "" {
		t.Errorf("lift all: code %d, %+v, %q (%v)", code, q, stderr, err)
	}
	t.Setenv(quarantine.StateVariable, "none")
	if code, _, stderr := calibrate("quarantine"); code != 1 || !strings.Contains(stderr, "SETUN_STATE=none") {
		t.Errorf("no state: code %d, %q", code, stderr)
	}
}
