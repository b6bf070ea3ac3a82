// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/jsonbound"
)

// Errors that DecodeProfile wraps.
var (
	ErrProfileDamaged = errors.New("profile is damaged")
	ErrProfileForeign = errors.New("profile is of another machine or other libraries")
	ErrProfileVersion = errors.New("profile has another schema version")
)

// Schema is the version of the profile's format.
const Schema = 2

const (
	maxProfileBytes = 1 << 20
	maxModels       = 512
	maxCells        = 4096 // over all models
	maxCoef         = 1e12
	maxName         = 64 // bytes of a backend's or kernel's name
	maxText         = 256

	// In the text of a profile within these limits there are fewer: what is beyond is refused before it takes memory.
	maxCommas = maxModels*20 + maxCells*8 + 100
)

// Entry is the model of one arm for one op.
type Entry struct {
	Op      string `json:"op"`
	Backend string `json:"backend"`
	Kernel  string `json:"kernel"`
	Model
}

// Profile is what was measured on a machine.
type Profile struct {
	Schema      int     `json:"schema"`
	Fingerprint string  `json:"fingerprint"` // of the machine and the libraries; see package machine
	Machine     string  `json:"machine"`     // for people
	Created     string  `json:"created"`     // for people
	Models      []Entry `json:"models"`
	Links       []Link  `json:"links,omitempty"` // to devices, at most one each
}

// Model returns the model of an arm. A nil profile has none.
func (p *Profile) Model(op backends.Op, a Arm) (Model, bool) {
	if p != nil {
		for _, e := range p.Models {
			if e.Op == op.String() && e.Backend == a.Backend && e.Kernel == a.Kernel {
				return e.Model, true
			}
		}
	}
	return Model{}, false
}

// links are those of a profile, and what is usual for devices that it does not know. A nil profile knows none.
func (p *Profile) links() (list [NumMemories]Link) {
	for m := Memory(1); m < NumMemories; m++ {
		list[m] = priorLink
	}
	if p != nil {
		for _, l := range p.Links {
			list[l.Memory] = l
		}
	}
	return list
}

// Set adds or replaces the model of an arm.
func (p *Profile) Set(op backends.Op, a Arm, m Model) {
	e := Entry{op.String(), a.Backend, a.Kernel, m}
	for i, old := range p.Models {
		if old.Op == e.Op && old.Backend == e.Backend && old.Kernel == e.Kernel {
			p.Models[i] = e
			return
		}
	}
	p.Models = append(p.Models, e)
}

// Encode returns the profile as indented JSON in a stable order: the same profile gives the same bytes. Errors wrap ErrProfileDamaged, for
// what DecodeProfile would refuse.
func (p *Profile) Encode() ([]byte, error) {
	c := Profile{Models: []Entry{}}
	if p != nil {
		c = *p
		c.Models = append([]Entry{}, p.Models...)
	}
	c.Schema = Schema
	slices.SortStableFunc(c.Models, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Kernel, b.Kernel))
	})
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(&c, "", " ")
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProfileDamaged, err)
	}
	if b = append(b, '\n'); len(b) > maxProfileBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrProfileDamaged, len(b), maxProfileBytes)
	}
	return b, nil
}

// DecodeProfile reads a profile that was measured under the given fingerprint. Nothing in data is believed before it has been
// checked, and no data can make it panic. Errors wrap ErrProfileDamaged, ErrProfileVersion or ErrProfileForeign.
func DecodeProfile(data []byte, fingerprint string) (*Profile, error) {
	if len(data) > maxProfileBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrProfileDamaged, len(data), maxProfileBytes)
	}
	if n := jsonbound.Commas(data); n > maxCommas {
		return nil, fmt.Errorf("%w: more than %d models with %d cells", ErrProfileDamaged, maxModels, maxCells)
	}
	var version struct{ Schema int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProfileDamaged, err)
	}
	if version.Schema != Schema {
		return nil, fmt.Errorf("%w: found %d, wanted %d", ErrProfileVersion, version.Schema, Schema)
	}
	p := new(Profile)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProfileDamaged, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the profile", ErrProfileDamaged)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Fingerprint != fingerprint {
		return nil, fmt.Errorf("%w: its fingerprint is %q, this machine's is %q", ErrProfileForeign, p.Fingerprint, fingerprint)
	}
	return p, nil
}
