// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"io/fs"
	"path/filepath"
)

// Draft is a file in the making, which gets its name when it is whole. It must be ended by Commit or Discard; after either Discard does nothing.
type Draft struct {
	system System
	file   File
	path   string
	err    error // the first of a Write
	ended  bool
}

// Create begins a file that will replace the one at path: until then it is a hidden one in the same folder, which is made when it is missing.
func Create(path string) (*Draft, error) { return Files{}.Create(path) }

// Create is the function of that name.
func (f Files) Create(path string) (*Draft, error) {
	dir := filepath.Dir(path)
	if err := f.makeFolder(dir); err != nil {
		return nil, err
	}
	f.sweep(path)
	file, err := f.system().CreateTemp(dir, "."+filepath.Base(path)+".*"+temporary)
	if err != nil {
		return nil, err
	}
	return &Draft{system: f.system(), file: file, path: path}, nil
}

// Path is where the file will be.
func (d *Draft) Path() string { return d.path }

// Write appends to the file.
func (d *Draft) Write(data []byte) (int, error) {
	n, err := d.file.Write(data)
	if d.err == nil {
		d.err = err
	}
	return n, err
}

// Commit makes what was written durable, under its name. It fails after a Write that failed. On an error nothing is left and the old file is as it was; only when the folder cannot be
// synced, the last step, the new file is there and may be lost with the power. No step is tried twice: after a sync that failed, the next one says nothing about what was to be written.
func (d *Draft) Commit(perm fs.FileMode) error {
	if d.ended {
		return fs.ErrClosed
	}
	if err := d.publish(perm); err != nil {
		d.Discard()
		return err
	}
	if !closedFirst {
		d.file.Close() // all is on the disk: there is nothing that could fail
	}
	d.ended = true
	return d.system.SyncDir(filepath.Dir(d.path))
}

// publish renames the file while it is still locked, where the system can, so that nobody takes it for one that was left.
func (d *Draft) publish(perm fs.FileMode) error {
	if d.err != nil {
		return d.err
	}
	if err := d.file.Chmod(perm); err != nil {
		return err
	}
	if err := d.file.Sync(); err != nil {
		return err
	}
	if closedFirst {
		if err := d.file.Close(); err != nil {
			return err
		}
	}
	return d.system.Rename(d.file.Name(), d.path)
}

// Discard removes the file. If it cannot be, the next save does so.
func (d *Draft) Discard() {
	if d.ended {
		return
	}
	d.ended = true
	if closedFirst {
		d.file.Close()
		d.system.Remove(d.file.Name())
		return
	}
	d.system.Remove(d.file.Name())
	d.file.Close()
}
