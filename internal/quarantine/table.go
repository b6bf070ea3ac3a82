// SPDX-License-Identifier: Apache-2.0

package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/jsonbound"
)

// Bounds of a file: beyond them it is not ours, however well formed.
const (
	maxFile    = 1 << 20
	maxEntries = 4096
	maxFields  = 12 // of an entry
	maxBroken  = 20 // files that are kept of those that were set aside
	lockWait   = 2 * time.Second
)

// table is a file with a list that several processes share.
type table[E any] struct {
	path, format string
	check        func(*E) error
	files        durable.Files
}

// content is the file's.
type content[E any] struct {
	Format  string `json:"format"`
	Entries []E    `json:"entries"`
}

// decode reads a file's text. Every field of every entry must be valid: what was damaged in one place may be in others.
func (t *table[E]) decode(data []byte) ([]E, error) {
	var c content[E]
	switch {
	case len(data) > maxFile:
		return nil, fmt.Errorf("%w: more than %d bytes", errInvalid, maxFile)
	case !json.Valid(data): // before anything is allocated
		return nil, fmt.Errorf("%w: no JSON", errInvalid)
	case jsonbound.Commas(data) > maxEntries*maxFields:
		return nil, fmt.Errorf("%w: more than %d entries", errInvalid, maxEntries)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	if c.Format != t.format {
		return nil, fmt.Errorf("%w: its format is %q, not %q", errInvalid, Clean(c.Format, 40), t.format)
	}
	if len(c.Entries) > maxEntries {
		return nil, fmt.Errorf("%w: more than %d entries", errInvalid, maxEntries)
	}
	for i := range c.Entries {
		if err := t.check(&c.Entries[i]); err != nil {
			return nil, err
		}
	}
	return c.Entries, nil
}

// load reads the file. A missing one is empty. An error that is errInvalid is the file's own.
func (t *table[E]) load() ([]E, error) {
	data, err := t.files.ReadFile(t.path, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, durable.ErrNotRegular):
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	case err != nil:
		return nil, err
	}
	return t.decode(data)
}

// read is load, but a broken file is set aside. The note says so.
func (t *table[E]) read() (list []E, note string, err error) {
	if list, err = t.load(); !errors.Is(err, errInvalid) {
		return list, "", err
	}
	unlock, e := t.files.Lock(t.path, lockWait)
	if e != nil {
		return nil, "", e
	}
	defer unlock()
	return t.readLocked()
}

func (t *table[E]) readLocked() (list []E, note string, err error) {
	list, err = t.load() // another process may have mended it meanwhile
	if !errors.Is(err, errInvalid) {
		return list, "", err
	}
	aside, e := t.setAside()
	if e != nil {
		return nil, "", errors.Join(err, e)
	}
	return nil, fmt.Sprintf("%s was broken (%v): it was set aside as %s, and what it said is forgotten", t.path, err, aside), nil
}

// update changes the list under a lock. When there are too many entries the first ones go.
func (t *table[E]) update(change func([]E) []E) (note string, err error) {
	unlock, err := t.files.Lock(t.path, lockWait)
	if err != nil {
		return "", err
	}
	defer unlock()
	list, note, err := t.readLocked()
	if err != nil {
		return "", err
	}
	for list = change(list); ; list = list[(len(list)+1)/2:] {
		list = list[max(0, len(list)-maxEntries):]
		data, err := json.MarshalIndent(content[E]{t.format, append([]E{}, list...)}, "", " ")
		if err != nil {
			return note, err
		}
		if len(data) < maxFile || len(list) < 2 {
			return note, t.files.WriteFile(t.path, append(data, '\n'), 0o600)
		}
	}
}

// setAside renames the file to path.broken, or path.broken.2 and so on, over the last of them when there are many.
func (t *table[E]) setAside() (string, error) {
	names := []string{t.path + ".broken"}
	for i := 2; i <= maxBroken; i++ {
		names = append(names, fmt.Sprintf("%s.broken.%d", t.path, i))
	}
	return t.files.SetAside(t.path, names, true)
}
