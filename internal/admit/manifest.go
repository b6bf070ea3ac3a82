// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// ManifestName is the file beside the libraries that lists their digests, in the format of sha256sum. The install writes it.
const ManifestName = "setun.sha256"

// Bounds of a manifest.
const (
	maxManifest = 1 << 20
	maxEntries  = 4096
)

// listed says whether there is a manifest. It fails when that does not list the file with this digest.
func (o *held) listed(d Digest, p policy) (bool, error) {
	name, manifest := filepath.Base(o.path), filepath.Join(filepath.Dir(o.path), ManifestName)
	f, err := o.beside(ManifestName, p)
	if f == nil || err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, refuse(ErrDigest, "%s is not a regular file; install again: make native", manifest)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return false, refuse(backends.ErrLibrary, "read %s: %v", manifest, err)
	}
	want, found, err := lookUp(data, name)
	switch {
	case err != nil:
		return false, refuse(ErrDigest, "%s: %v; install again: make native", manifest, err)
	case !found:
		return false, refuse(ErrDigest, "%s does not list %s, which has digest %s; install again: make native, or delete the file", manifest, name, d)
	case want != d:
		return false, refuse(ErrDigest, "%s has digest %s, %s says %s; install again: make native", o.path, d, manifest, want)
	}
	return true, nil
}

// lookUp finds the digest of a file in a manifest, all of which must be well formed: what was cut off or overwritten may have lost more than what it shows.
func lookUp(data []byte, name string) (d Digest, found bool, err error) {
	if len(data) > maxManifest {
		return d, false, fmt.Errorf("more than %d bytes", maxManifest)
	}
	text, whole := strings.CutSuffix(string(data), "\n")
	if !whole {
		return d, false, errors.New("it does not end with a line's end")
	}
	lines := strings.Split(text, "\n")
	if len(lines) > maxEntries {
		return d, false, fmt.Errorf("more than %d lines", maxEntries)
	}
	seen := map[string]bool{}
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		const digits = 2 * len(d)
		if len(line) < digits+3 || line[digits] != ' ' || line[digits+1] != ' ' && line[digits+1] != '*' {
			return d, false, fmt.Errorf("line %d is not a digest, two spaces and a file name", i+1)
		}
		sum, err := hex.DecodeString(line[:digits])
		if err != nil {
			return d, false, fmt.Errorf("line %d does not begin with a digest", i+1)
		}
		file := line[digits+2:]
		if seen[file] {
			return d, false, fmt.Errorf("line %d lists %s again", i+1, file)
		}
		seen[file] = true
		if file == name {
			copy(d[:], sum)
			found = true
		}
	}
	return d, found, nil
}
