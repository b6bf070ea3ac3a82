// SPDX-License-Identifier: Apache-2.0

//go:build unix

package admit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/setun-compute/setun/backends"
)

// maxDepth bounds the number of folders above a file.
const maxDepth = 256

// vet asks whether anybody but root and ourselves could change the file, or put another in its place: by writing it, or by writing any folder above it.
//
// The folders are those that really contain the file, found by going up from the descriptor of its own: what symbolic links led to it does not matter. A folder like /tmp, which everybody may write but
// where the sticky bit keeps people from renaming what is not theirs, is all right above a folder that passed; directly around the file it is not, since others can put files there for the library, or us, to find.
func (o *held) vet(p policy) error {
	var v verdict
	var st unix.Stat_t
	if err := unix.Fstat(int(o.file.Fd()), &st); err != nil {
		return refuse(backends.ErrLibrary, "%v", err)
	}
	v.look(o.path, &st, p, false)
	folder, err := filepath.EvalSymlinks(filepath.Dir(o.path)) // for the messages alone
	if err != nil {
		folder = filepath.Dir(o.path)
	}
	up, last := ".", st
	for depth := range maxDepth {
		if err := unix.Fstatat(o.folder, up, &st, 0); err != nil {
			return refuse(ErrUnsafe, "the folder %s cannot be looked at: %v", folder, err)
		}
		if depth > 0 && st.Dev == last.Dev && st.Ino == last.Ino {
			return v.error() // the root is its own parent
		}
		sticky := st.Mode&unix.S_ISVTX != 0
		v.look(folder, &st, p, sticky && depth > 0)
		if sticky && depth == 0 && uint32(st.Mode)&p.write != 0 {
			v.open = true
		}
		up, folder, last = up+"/..", filepath.Dir(folder), st
	}
	return refuse(ErrUnsafe, "%s has more than %d folders above it", o.path, maxDepth)
}

// verdict collects all that is wrong, so that one command mends it.
type verdict struct {
	wrong    []string
	writable []string // paths
	strange  []string // paths of somebody else
	open     bool     // the library lies directly in a folder like /tmp
}

// look judges a file or folder. Writing a sticky folder is no way to replace what is in it.
func (v *verdict) look(path string, st *unix.Stat_t, p policy, sticky bool) {
	mode := uint32(st.Mode)
	if p.owners && !trusted(st.Uid) {
		v.wrong = append(v.wrong, fmt.Sprintf("%s belongs to user %d", path, st.Uid))
		v.strange = append(v.strange, path)
	}
	if bits := mode & p.write; bits != 0 && !sticky {
		who := "others"
		switch {
		case bits == 0o022:
			who = "group and others"
		case bits == 0o020:
			who = fmt.Sprintf("group %d", st.Gid)
		}
		v.wrong = append(v.wrong, fmt.Sprintf("%s can be written by %s (mode %04o)", path, who, mode&0o7777))
		v.writable = append(v.writable, path)
	}
}

// error is nil when nothing was wrong.
func (v *verdict) error() error {
	if len(v.wrong) == 0 {
		return nil
	}
	var cure []string
	if v.open {
		cure = append(cure, "put it into a folder of its own")
	} else if len(v.writable) > 0 {
		cure = append(cure, "chmod go-w "+quote(v.writable))
	}
	if len(v.strange) > 0 {
		if os.Geteuid() == 0 {
			cure = append(cure, "chown root "+quote(v.strange))
		} else {
			cure = append(cure, "install a copy of your own: make native")
		}
	}
	return refuse(ErrUnsafe, "%s; to mend it: %s", strings.Join(v.wrong, ", "), strings.Join(cure, " && "))
}

// quote makes words of a shell, the outermost folder first.
func quote(paths []string) string {
	var words []string
	for _, p := range slices.Backward(paths) {
		if strings.ContainsFunc(p, func(r rune) bool {
			return !strings.ContainsRune("/._-+,:@%", r) && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z')
		}) {
			p = "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
		}
		words = append(words, p)
	}
	return strings.Join(words, " ")
}

// trusted says whether a user's files may become our code: root's, and our own. In a process with privileges that its user lacks he must not become one of those, as he would where only the group was raised.
func trusted(uid uint32) bool {
	self := uint32(os.Geteuid())
	return uid == 0 || uid == self && (!Raised() || self != uint32(os.Getuid()))
}
