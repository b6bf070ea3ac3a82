// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"os"
	"strings"
	"sync"
)

// self describes this process.
var self = sync.OnceValue(func() process {
	p := process{ID: os.Getpid()}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		p.Boot = Clean(string(boot), 64)
	}
	if stat, err := os.ReadFile("/proc/self/stat"); err == nil {
		// The name in the second field may hold anything, spaces and brackets too. Field 22 is the 20th behind it.
		if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(fields) >= 20 {
			p.Start = Clean(fields[19], 32)
		}
	}
	return p
})
