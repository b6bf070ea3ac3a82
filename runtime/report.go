// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/machine"
)

// Report tells what Open found, loaded and refused, and why.
type Report struct {
	Machine  machine.Machine `json:"machine"`
	ISA      []machine.ISA   `json:"isa"` // instruction set levels, best first
	Backends []BackendReport `json:"backends"`
	Profile  ProfileReport   `json:"profile"`

	Quarantine QuarantineReport `json:"quarantine"`

	Ignored []string `json:"ignored,omitempty"` // environment variables that are set and not believed: the process has privileges that its user lacks
}

// BackendReport tells of one backend at one place.
type BackendReport struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Origin  string   `json:"origin"` // "built in", or why this place was looked at
	State   string   `json:"state"`  // "loaded", "missing", "refused", "failed", "quarantined", "no device", or "lost": its device was there
	Reason  string   `json:"reason"`
	Version string   `json:"version,omitempty"`
	Build   string   `json:"build,omitempty"`
	Kernels []string `json:"kernels"`

	Digest   string `json:"digest,omitempty"`   // SHA-256 of the library's file
	Manifest bool   `json:"manifest,omitempty"` // it is the one that was noted at the installation, in setun.sha256 beside the file
	ByPath   bool   `json:"by_path,omitempty"`  // loaded by its path and not by the descriptor that was checked, as on Linux without /proc

	Probe  *ProbeReport         `json:"probe,omitempty"`  // of a library that was let in
	Device *backends.DeviceInfo `json:"device,omitempty"` // of a backend that has one, as it is now
}

// ProfileReport tells what became of the machine's profile.
type ProfileReport struct {
	Path        string `json:"path"`
	State       string `json:"state"` // "loaded", "missing", "refused" or "not used"
	Reason      string `json:"reason,omitempty"`
	Fingerprint string `json:"fingerprint"` // a profile must carry it
}

// builds are the texts by which a profile knows the libraries that it was measured with.
func (r *Report) builds() []string {
	var list []string
	for _, b := range r.Backends {
		if b.State == "loaded" && b.Build != "" {
			list = append(list, b.Name+" "+b.Version+" "+b.Build)
		}
		if b.Device != nil {
			list = append(list, fmt.Sprintf("%s %s %s", b.Name, b.Device.Name, b.Device.Driver))
		}
	}
	return list
}

// Report returns what Open found, and how the devices are now. The caller must not change it.
func (rt *Runtime) Report() Report {
	r := rt.report
	if len(rt.devices) == 0 {
		return r
	}
	rt.traffic.enter() // Close waits
	defer rt.traffic.leave()
	r.Backends = slices.Clone(r.Backends)
	for _, d := range rt.devices {
		d.report(&r.Backends[d.row], rt.closed.Load())
	}
	return r
}

// log tells of what is there and cannot be used.
func (r *Report) log(l *slog.Logger) {
	if l == nil {
		return
	}
	for _, b := range r.Backends {
		if b.State == "refused" || b.State == "failed" || b.State == "quarantined" || b.State == "loaded" && b.Reason != "" {
			l.Warn("setun: library "+b.State, slog.String("path", b.Path), slog.String("reason", b.Reason))
		}
	}
	if r.Quarantine.Unprobed {
		l.Warn("setun: LIBRARIES ARE LOADED WITHOUT A PROBE: one that crashes takes the program with it")
	}
	for _, text := range r.Quarantine.found {
		l.Warn("setun: " + text)
	}
	for _, note := range r.Quarantine.Notes {
		l.Warn("setun: " + note)
	}
	if len(r.Ignored) > 0 {
		l.Warn("setun: environment not believed in a process with raised privileges", slog.Any("variables", r.Ignored))
	}
	if r.Profile.State == "refused" {
		l.Warn("setun: profile refused", slog.String("path", r.Profile.Path), slog.String("reason", r.Profile.Reason))
	}
}
