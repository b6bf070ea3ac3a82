// SPDX-License-Identifier: Apache-2.0

// Package machine says what computer this is: what the cost model needs before any measurement, and the fingerprint by
// which a profile knows where it was measured.
package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Machine describes the processor, with the operating system's consent to its vector registers counted in.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"` // that this process may use
	L1     int    `json:"l1_bytes"`
	L2     int    `json:"l2_bytes"`
	L3     int    `json:"l3_bytes"`
	Levels []ISA  `json:"-"`
}

// ISA is an instruction set level that native kernels may be written for.
type ISA struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"` // why it is not
}

// Detect looks at the machine that the process runs on.
func Detect() Machine {
	c := &cpuid.CPU
	name := c.BrandName
	if name == "" {
		name = "unknown " + runtime.GOARCH
	}
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: strings.TrimSpace(name), Cores: runtime.GOMAXPROCS(0),
		L1: max(0, c.Cache.L1D), L2: max(0, c.Cache.L2), L3: max(0, c.Cache.L3)}
	switch runtime.GOARCH {
	case "amd64":
		m.Levels = []ISA{
			level("avx512vbmi", cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.AVX512VBMI),
			level("avx512vnni", cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI),
			level("avx512", cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL),
			level("avx2", cpuid.AVX, cpuid.AVX2, cpuid.FMA3, cpuid.BMI2),
			level("sse42", cpuid.SSE4, cpuid.SSE42),
		}
		half(m.Levels, c.Supports(cpuid.AVX))
	case "arm64":
		m.Levels = []ISA{level("neondot", cpuid.ASIMDDP), {Name: "neon", Available: true}} // NEON is part of the architecture
	}
	return m
}

// half adds to the reason why there is no avx2 on a processor that has AVX alone.
func half(levels []ISA, avx bool) {
	for i := range levels {
		if l := &levels[i]; l.Name == "avx2" && !l.Available && avx {
			l.Reason += "; AVX alone gains nothing here, the sse42 level is used"
		}
	}
}

func level(name string, needs ...cpuid.FeatureID) ISA {
	var missing []string
	for _, f := range needs {
		if !cpuid.CPU.Supports(f) {
			missing = append(missing, f.String())
		}
	}
	if len(missing) > 0 {
		return ISA{Name: name, Reason: "no " + strings.Join(missing, ", ") + " on this processor and operating system"}
	}
	return ISA{Name: name, Available: true}
}

// Best returns the name of the highest level available, or "".
func (m Machine) Best() string {
	for _, l := range m.Levels {
		if l.Available {
			return l.Name
		}
	}
	return ""
}

// Fingerprint identifies the machine together with the libraries' build texts: a profile measured under another one is foreign.
func (m Machine) Fingerprint(builds []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %s cores=%d l1=%d l2=%d l3=%d %v\n", m.OS, m.Arch, m.CPU, m.Cores, m.L1, m.L2, m.L3, cpuid.CPU.FeatureSet())
	for _, b := range builds {
		fmt.Fprintln(h, b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
