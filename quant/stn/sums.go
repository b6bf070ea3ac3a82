// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// crc32c is the Castagnoli polynomial's table, for which processors have an instruction.
var crc32c = crc32.MakeTable(crc32.Castagnoli)

// body writes all sections one after the other, and computes the checksums of their pages.
type body struct {
	out  *bufio.Writer
	at   int64  // in the file
	sum  uint32 // of the page so far
	sums []byte // of the pages before, as they are written to the file
}

func newBody(w io.Writer) *body {
	b := &body{out: bufio.NewWriterSize(w, page), at: prefix}
	head := make([]byte, prefix)
	copy(head, magic)
	binary.LittleEndian.PutUint32(head[len(magic):], version)
	b.out.Write(head) // an error comes again
	return b
}

// Write appends bytes of the open section.
func (b *body) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		part := data[:min(int64(len(data)), page-(b.at-prefix)%page)]
		b.sum = crc32.Update(b.sum, crc32c, part)
		if _, err := b.out.Write(part); err != nil {
			return 0, err
		}
		b.at += int64(len(part))
		if data = data[len(part):]; (b.at-prefix)%page == 0 {
			b.flush()
		}
	}
	return n, nil
}

func (b *body) flush() {
	b.sums = binary.LittleEndian.AppendUint32(b.sums, b.sum)
	b.sum = 0
}

// align fills up to where the next section may begin.
func (b *body) align() error {
	_, err := b.Write(make([]byte, aligned(b.at)-b.at))
	return err
}

// finish writes what follows the sections: checksums, header, footer.
func (b *body) finish(header []byte, tensors int) error {
	if (b.at-prefix)%page != 0 {
		b.flush()
	}
	foot := make([]byte, footer)
	binary.LittleEndian.PutUint64(foot, uint64(b.at))
	binary.LittleEndian.PutUint64(foot[8:], uint64(len(header)))
	binary.LittleEndian.PutUint32(foot[16:], uint32(tensors))
	binary.LittleEndian.PutUint32(foot[20:], version)
	binary.LittleEndian.PutUint32(foot[24:], crc32.Update(crc32.Checksum(b.sums, crc32c), crc32c, header))
	binary.LittleEndian.PutUint32(foot[28:], crc32.Checksum(foot[:28], crc32c))
	copy(foot[footer-len(endMagic):], endMagic)
	for _, part := range [][]byte{b.sums, header, foot} {
		if _, err := b.out.Write(part); err != nil {
			return err
		}
	}
	return b.out.Flush()
}

// pages are the checksums of a file that is read, and which of them were found right.
type pages struct {
	sums []byte
	good []atomic.Uint64 // a bit a page
	end  int64           // of the last page
}

func newPages(sums []byte, end int64) *pages {
	return &pages{sums, make([]atomic.Uint64, len(sums)/4/64+1), end}
}

// check makes sure that the pages which hold some bytes of a file are right. Each is computed once.
func (p *pages) check(data []byte, s Section) *Error {
	if s.Size == 0 {
		return nil
	}
	for n := (s.Offset - prefix) / page; n <= (s.end()-1-prefix)/page; n++ {
		if p.good[n/64].Load()>>(n%64)&1 != 0 {
			continue
		}
		begin := prefix + n*page
		part := data[begin:min(begin+page, p.end)]
		if got, want := crc32.Checksum(part, crc32c), binary.LittleEndian.Uint32(p.sums[4*n:]); got != want {
			return fail(ErrChecksum, begin, "page %d, of %d bytes, has the checksum %08x; the file says %08x", n, len(part), got, want)
		}
		p.good[n/64].Or(1 << (n % 64))
	}
	return nil
}
