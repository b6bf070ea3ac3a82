// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/durable"
)

// readProfile loads the profile and reports what became of it.
func (report *Report) readProfile(path string) *dispatch.Profile {
	r := &report.Profile
	r.Fingerprint = report.Machine.Fingerprint(report.builds())
	if path == "none" {
		r.State = "not used"
		return nil
	}
	if path == "" {
		var err error
		if path, err = defaultProfile(); err != nil {
			r.State, r.Reason = "missing", err.Error()
			return nil
		}
	}
	r.Path = path
	data, err := os.ReadFile(path)
	if err != nil {
		r.State, r.Reason = "missing", err.Error()
		return nil
	}
	p, err := dispatch.DecodeProfile(data, r.Fingerprint)
	if err != nil {
		r.State, r.Reason = "refused", err.Error()
		return nil
	}
	r.State = "loaded"
	return p
}

// ProfilePath returns where the machine's profile is by default: SETUN_PROFILE, or setun/profile.json in the user's cache folder.
func ProfilePath() (string, error) {
	if p := os.Getenv(ProfileVariable); p != "" && p != "none" {
		return p, nil
	}
	return defaultProfile()
}

func defaultProfile() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil || !filepath.IsAbs(cache) {
		return "", fmt.Errorf("there is no cache folder for the profile: set %s", ProfileVariable)
	}
	return filepath.Join(cache, "setun", "profile.json"), nil
}

// machine is what people call the machine.
func (r *Report) machine() string {
	return fmt.Sprintf("%s, %d cores", r.Machine.CPU, r.Machine.Cores)
}

const (
	lockWait  = 2 * time.Second // for other processes that save
	worthCall = 100             // timed calls that must have been learned from, and
	worthTime = time.Second     // time of all calls, before it is saved
)

// saveLearned merges what was learned since base was loaded into the profile's file, under a lock. A file that is not a profile of this machine and these libraries is kept under another name.
func saveLearned(report *Report, learned []dispatch.Entry, base *dispatch.Profile) error {
	path, fingerprint := report.Profile.Path, report.Profile.Fingerprint
	unlock, err := durable.Lock(path, lockWait)
	if err != nil {
		return fmt.Errorf("save what was learned: %w", err)
	}
	defer unlock()
	data, err := os.ReadFile(path)
	p := &dispatch.Profile{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("save what was learned: %w", err)
	default:
		if p, err = dispatch.DecodeProfile(data, fingerprint); err != nil {
			if err := durable.WriteFile(path+".old", data, 0o644); err != nil {
				return fmt.Errorf("save what was learned: %w", err)
			}
			p = &dispatch.Profile{}
		}
	}
	if p.Fingerprint == "" {
		*p = dispatch.Profile{Fingerprint: fingerprint, Machine: report.machine(), Created: time.Now().UTC().Format(time.RFC3339)}
		base = nil
	}
	p.Merge(learned, base)
	if data, err = p.Encode(); err == nil {
		err = durable.WriteFile(path, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("save what was learned: %w", err)
	}
	return nil
}
