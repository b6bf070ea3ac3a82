// SPDX-License-Identifier: Apache-2.0

//go:build !unix && !windows

package admit

import (
	"os"
	"path/filepath"
)

// held is an open file. There is no loader here to hand it to.
type held struct {
	file *os.File
	path string
}

func hold(path string) (*held, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cannotOpen(err)
	}
	return &held{file: f, path: path}, nil
}

func (*held) vet(policy) error { return nil }

// beside opens another file of the same folder, nil when there is none.
func (o *held) beside(name string, _ policy) (*os.File, error) {
	f, err := os.Open(filepath.Join(filepath.Dir(o.path), name))
	if os.IsNotExist(err) {
		return nil, nil
	}
	return f, err
}

func (*held) release() {}
