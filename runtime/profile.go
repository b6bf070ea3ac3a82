// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/durable"
)

// readProfile loads the profile and reports what became of it. file is the one that it was looked for in first, "" for none. When that is of another machine, other libraries or
// another version, the profile that was learned beside it is looked for.
func (report *Report) readProfile(path string) (p *dispatch.Profile, file string) {
	r := &report.Profile
	r.Fingerprint = report.Machine.Fingerprint(report.builds())
	if path == "none" {
		r.State = "not used"
		return nil, ""
	}
	if path == "" {
		var err error
		if path, err = defaultProfile(); err != nil {
			r.State, r.Reason = "missing", err.Error()
			return nil, ""
		}
	}
	var files durable.Files
	p, missing, err := decodeFile(files, path, r.Fingerprint)
	if r.Path = path; foreign(err) {
		other := beside(path, r.Fingerprint)
		if q, missing, e := decodeFile(files, other, r.Fingerprint); !missing {
			r.Path, p, err = other, q, e
		}
	}
	switch {
	case missing:
		r.State, r.Reason = "missing", err.Error()
	case err != nil:
		r.State, r.Reason = "refused", err.Error()
	default:
		r.State = "loaded"
	}
	return p, path
}

// maxProfile bounds what is read of a profile's file. The package of profiles refuses more.
const maxProfile = 1 << 20

// decodeFile reads a profile. missing: it could not be read at all.
func decodeFile(files durable.Files, path, fingerprint string) (p *dispatch.Profile, missing bool, err error) {
	data, err := files.ReadFile(path, maxProfile)
	if err != nil {
		return nil, !errors.Is(err, durable.ErrNotRegular), err
	}
	p, err = dispatch.DecodeProfile(data, fingerprint)
	return p, false, err
}

// foreign says whether a file that was refused serves somebody else: other libraries, fewer processors, another version of this package.
func foreign(err error) bool {
	return errors.Is(err, dispatch.ErrProfileForeign) || errors.Is(err, dispatch.ErrProfileVersion)
}

// beside is where a profile is kept when the file at path is somebody else's.
func beside(path, fingerprint string) string {
	extension := filepath.Ext(path)
	return strings.TrimSuffix(path, extension) + "-" + fingerprint + extension
}

// ProfilePath returns where the machine's profile is by default: SETUN_PROFILE, or setun/profile.json in the user's cache folder.
func ProfilePath() (string, error) {
	if p := admit.Getenv(ProfileVariable); p != "" && p != "none" {
		return p, nil
	}
	return defaultProfile()
}

func defaultProfile() (string, error) {
	if admit.Raised() {
		return "", errors.New("a process with raised privileges has no profile but one that the program names")
	}
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

// saveLearned merges what was learned since base was loaded into the profile's file, or, when that is somebody else's, into one of its own beside it.
func saveLearned(report *Report, path string, learned []dispatch.Entry, base *dispatch.Profile) error {
	return saveLearnedTo(durable.Files{}, report, path, learned, base)
}

func saveLearnedTo(files durable.Files, report *Report, path string, learned []dispatch.Entry, base *dispatch.Profile) error {
	err := mergeInto(files, report, path, false, learned, base)
	if foreign(err) {
		err = mergeInto(files, report, beside(path, report.Profile.Fingerprint), true, learned, base)
	}
	if err != nil {
		return fmt.Errorf("save what was learned: %w", err)
	}
	return nil
}

// mergeInto does so for one file, under a lock. A file that is damaged is put aside; one that is somebody else's is an error and stays as it is, unless its name says that it is ours.
func mergeInto(files durable.Files, report *Report, path string, ours bool, learned []dispatch.Entry, base *dispatch.Profile) error {
	fingerprint := report.Profile.Fingerprint
	unlock, err := files.Lock(path, lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	p, _, err := decodeFile(files, path, fingerprint)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p = &dispatch.Profile{}
	case errors.Is(err, dispatch.ErrProfileDamaged), ours && foreign(err):
		if err := putAside(files, path); err != nil {
			return err
		}
		p = &dispatch.Profile{}
	case err != nil:
		return err
	}
	if p.Fingerprint == "" {
		*p = dispatch.Profile{Fingerprint: fingerprint, Machine: report.machine(), Created: time.Now().UTC().Format(time.RFC3339)}
		base = nil
	}
	p.Merge(learned, base)
	data, err := p.Encode()
	if err != nil {
		return err
	}
	return files.WriteFile(path, data, 0o644)
}

// maxOld files are kept of those that were put aside.
const maxOld = 100

// putAside renames a file to path.old, or path.old.2 and so on: what was put aside before stays.
func putAside(files durable.Files, path string) error {
	names := []string{path + ".old"}
	for i := 2; i <= maxOld; i++ {
		names = append(names, fmt.Sprintf("%s.old.%d", path, i))
	}
	_, err := files.SetAside(path, names, false)
	return err
}
