// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/setun-compute/setun/backends"
)

// held is an open file that nobody can write, rename or delete until it is closed.
type held struct {
	file *os.File
	path string
}

// hold opens a file that must not be a link.
func hold(path string) (*held, error) {
	f, err := openAlone(path)
	if err != nil {
		return nil, err
	}
	return &held{file: f, path: path}, nil
}

// openAlone lets others read the file meanwhile, and nothing more.
func openAlone(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, cannotOpen(&os.PathError{Op: "open", Path: path, Err: err})
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		if info, e := os.Stat(path); e == nil && info.IsDir() { // which opens only for who asks for folders
			return nil, refuse(backends.ErrLibrary, "%s is not a regular file", path)
		}
	}
	if err != nil {
		return nil, cannotOpen(&os.PathError{Op: "open", Path: path, Err: err})
	}
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err == nil && info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		windows.CloseHandle(h)
		return nil, refuse(ErrUnsafe, "%s is a symbolic link, which can be turned to another file: put the file itself there, or name it", path)
	}
	return os.NewFile(uintptr(h), path), nil
}

// vet: owners and access control lists are not looked at here.
func (*held) vet(policy) error { return nil }

// beside opens another file of the same folder, nil when there is none.
func (o *held) beside(name string, _ policy) (*os.File, error) {
	f, err := openAlone(filepath.Join(filepath.Dir(o.path), name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func (*held) release() {}
