// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"unsafe"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/internal/lloyd"
)

// mirror keeps what a run of k-means has by row on a device: the points, weights, units, labels and distances. Each is copied when the side that needs it does not have it, so the points
// go up once, and labels and distances come down where the host reads them. Points that lie in a buffer stay in it: the rows that the host reads come down.
// Passes over other rows, mini-batches, stay in the host's memory; so does everything of a mirror that streams, but for what lies in a buffer.
type mirror struct {
	device Device
	rows   int
	first  unsafe.Pointer // the run's points
	copies []*copied

	spare []backends.Address // for labels, distances, weights and units, so that the device has memory for them before anything is done

	streams bool // makes no copies
}

// reserve takes the device's memory for what every run has by row beside the points; of a mirror that streams, for a moment, what every assignment needs by centroid.
func (m *mirror) reserve(a *backends.KMeans) error {
	if m.streams {
		at, err := m.device.Alloc(streamed(int64(a.D), int64(a.K)))
		if err == nil {
			err = m.device.Free(at)
		}
		return err
	}
	arrays := 2
	if a.Weights != nil && a.WeightsAt == 0 {
		arrays++
	}
	if a.Cosine {
		arrays++
	}
	for range arrays {
		at, err := m.device.Alloc(4 * int64(m.rows))
		if err != nil {
			return err
		}
		m.spare = append(m.spare, at)
	}
	return nil
}

// streamed is how many bytes an assignment in pieces needs at least: the centroids and their sums, and for each of two pieces the centroids once more and 128 rows.
func streamed(d, k int64) int64 { return 4*k*d + 8*k*d + 2*(4*k*d+4*128*d) }

// copied is an array of the host and its copy on the device.
type copied struct {
	host     []byte
	at       backends.Address
	onHost   bool // the host's array is up to date
	onDevice bool // and the copy
	lent     bool // it lies in a buffer that is not the run's
}

// lend takes an array that lies on the device already. onHost: the slice holds it, too.
func (m *mirror) lend(host []byte, at backends.Address, onHost bool) {
	if at != 0 && len(host) > 0 {
		m.copies = append(m.copies, &copied{host: host, at: at, onHost: onHost, onDevice: true, lent: true})
	}
}

// place puts the addresses of the copies into the block of a step, after bringing up what the step reads.
func (m *mirror) place(s *lloyd.Step, p *kmeansArgs) error {
	if s.N != m.rows || unsafe.Pointer(unsafe.SliceData(s.X)) != m.first {
		return nil
	}
	writesDistance := s.Kind == lloyd.Distance || s.Kind == lloyd.Units || s.Kind == lloyd.Seed
	for _, v := range [...]struct {
		host        []byte
		field       *unsafe.Pointer
		read, write bool
	}{
		{backends.Bytes(s.X), (*unsafe.Pointer)(unsafe.Pointer(&p.x)), true, false},
		{backends.Bytes(s.Weights), (*unsafe.Pointer)(unsafe.Pointer(&p.weights)), true, false},
		{backends.Bytes(s.Unit), (*unsafe.Pointer)(unsafe.Pointer(&p.unit)), true, false},
		{backends.Bytes(s.Labels), (*unsafe.Pointer)(unsafe.Pointer(&p.labels)), true, s.Kind == lloyd.Assign || s.Kind == lloyd.Iterate},
		{backends.Bytes(s.Distance), (*unsafe.Pointer)(unsafe.Pointer(&p.distance)), !writesDistance || s.KeepMin, writesDistance},
	} {
		if len(v.host) == 0 {
			continue
		}
		c, err := m.copy(v.host)
		if c == nil && err == nil {
			continue // the host's
		}
		if err == nil && v.read && !c.onDevice {
			err = m.device.upload(c.at, c.host, p.cancel)
			c.onDevice = err == nil
		}
		if err != nil {
			return err
		}
		if v.write {
			c.onHost, c.onDevice = false, true
		}
		*v.field = pointer(c.at)
	}
	return nil
}

// copy returns the copy of an array, a new one with nothing in it when there is none yet; of a mirror that streams, nil.
func (m *mirror) copy(host []byte) (*copied, error) {
	for _, c := range m.copies {
		if &c.host[0] == &host[0] {
			return c, nil
		}
	}
	if m.streams {
		return nil, nil
	}
	var at backends.Address
	if n := len(m.spare); n > 0 && len(host) == 4*m.rows && &host[0] != (*byte)(m.first) {
		at, m.spare = m.spare[n-1], m.spare[:n-1]
	} else {
		var err error
		if at, err = m.device.Alloc(int64(len(host))); err != nil {
			return nil, err
		}
	}
	c := &copied{host: host, at: at, onHost: true}
	m.copies = append(m.copies, c)
	return c, nil
}

// holding returns the copy of the array of which part is a part, and where that begins in it; nil when there is none.
func (m *mirror) holding(part []byte) (c *copied, from int) {
	if len(part) == 0 {
		return nil, 0
	}
	at := uintptr(unsafe.Pointer(&part[0]))
	for _, c := range m.copies {
		if base := uintptr(unsafe.Pointer(&c.host[0])); at >= base && at < base+uintptr(len(c.host)) {
			return c, int(at - base)
		}
	}
	return nil, 0
}

// pull brings parts of arrays down that steps have written.
func (m *mirror) pull(labels []int32, distance []float32) error {
	if err := m.bring(backends.Bytes(labels)); err != nil {
		return err
	}
	return m.bring(backends.Bytes(distance))
}

// points brings a part of the points down where they lie in a buffer.
func (m *mirror) points(part []float32) error { return m.bring(backends.Bytes(part)) }

// bring brings a part of an array down, unless the host has it.
func (m *mirror) bring(part []byte) error {
	c, from := m.holding(part)
	if c == nil || c.onHost {
		return nil
	}
	err := m.device.Download(part, c.at+backends.Address(from))
	c.onHost = err == nil && len(part) == len(c.host)
	return err
}

// push notes that the host has written whole arrays.
func (m *mirror) push(labels []int32, distance []float32) {
	for _, whole := range [...][]byte{backends.Bytes(labels), backends.Bytes(distance)} {
		if c, _ := m.holding(whole); c != nil {
			c.onHost, c.onDevice = true, false
		}
	}
}

// free gives the device's memory back. That of a device that is lost is gone already.
func (m *mirror) free() {
	for _, c := range m.copies {
		if !c.lent {
			_ = m.device.Free(c.at)
		}
	}
	for _, at := range m.spare {
		_ = m.device.Free(at)
	}
	m.copies, m.spare = nil, nil
}
