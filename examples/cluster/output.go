// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/npy"
	setun "github.com/setun-compute/setun/runtime"
)

// outputs are the files of a result. report.json goes first when they are replaced and comes last, so that a folder which has it has a whole result.
func outputs() []string { return []string{"labels.npy", "centroids.npy", "picture.png", "report.json"} }

// output is the folder of a result in the making.
type output struct {
	dir  string
	temp *durable.Folder // holds the folder fresh: beside dir, or in it when dir is there, for it may be a mount point
	here bool            // dir was there at the beginning
}

// newOutput makes a temporary folder, so that a folder that cannot be written to is known before the work. It refuses to replace results unless force is set.
func newOutput(dir string, force bool) (*output, error) {
	o := &output{dir: filepath.Clean(dir)}
	parent := filepath.Dir(o.dir)
	switch info, err := os.Stat(o.dir); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(parent, 0o777); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a folder", o.dir)
	default:
		o.here, parent = true, o.dir
	}
	for _, name := range outputs() {
		if _, err := os.Lstat(filepath.Join(o.dir, name)); err == nil && !force {
			return nil, fmt.Errorf("%s has a %s already; name another folder, or replace it with -force", o.dir, name)
		}
	}
	var err error
	if o.temp, err = durable.NewFolder(parent, "cluster"); err != nil {
		return nil, err
	}
	if err := os.Mkdir(o.fresh(), 0o777); err != nil { // the other one would keep others out
		o.discard()
		return nil, err
	}
	return o, nil
}

func (o *output) fresh() string { return filepath.Join(o.temp.Path, "fresh") }

// discard removes what was not published.
func (o *output) discard() { o.temp.Remove() }

// write fills the folder and publishes it, unless the context ends before.
func (o *output) write(ctx context.Context, r *report, points []float32, c *setun.Clustering) error {
	at := func(name string) string { return filepath.Join(o.fresh(), name) }
	if err := npy.WriteFile(at("labels.npy"), c.Labels, len(c.Labels)); err != nil {
		return err
	}
	if err := npy.WriteFile(at("centroids.npy"), c.Centroids, c.K, c.Dim); err != nil {
		return err
	}
	if err := durable.Write(at("picture.png"), 0o644, func(w io.Writer) error { return picture(ctx, w, r, points, c) }); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(at("report.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.publish()
}

// publish moves the files to where they belong.
func (o *output) publish() error {
	if !o.here {
		if err := os.Rename(o.fresh(), o.dir); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(o.dir))
	}
	names := outputs()
	if err := os.Remove(filepath.Join(o.dir, names[len(names)-1])); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(o.fresh(), name), filepath.Join(o.dir, name)); err != nil {
			return err
		}
	}
	return durable.SyncDir(o.dir)
}
