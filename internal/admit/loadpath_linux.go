// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"os"
	"strconv"
	"strings"
)

const descriptors = "/proc/self/fd/"

// loadPath returns a path that leads the loader to the descriptor, or nothing where /proc is not mounted or not ours to read.
//
// glibc knows what it has loaded by the text of the path too, and would answer the number of a descriptor that was used before with the library of that time. So 64 bits of the digest are spelt into the
// path: "./" is 1, another "/" is 0, and both lead to the same place. The same content has few spellings, as the loader keeps each for ever.
func loadPath(f *os.File, info os.FileInfo, d Digest) string {
	return loadPathIn(descriptors, f, info, d)
}

func loadPathIn(folder string, f *os.File, info os.FileInfo, d Digest) string {
	var b strings.Builder
	b.WriteString(folder)
	for i := range 64 {
		if d[i/8]>>(i%8)&1 != 0 {
			b.WriteByte('.')
		}
		b.WriteByte('/')
	}
	b.WriteString(strconv.Itoa(int(f.Fd())))
	if there, err := os.Stat(b.String()); err != nil || !os.SameFile(there, info) {
		return ""
	}
	return b.String()
}
