// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/internal/plugin"
)

// WithPlugin loads backends of others: shared libraries by their absolute paths (docs/adding-a-backend.md). They are admitted, probed and watched like Setun's own, and their kernels compete with all others. By default, also in addition to these, those that
// SETUN_PLUGINS lists are loaded. One that is refused is no error but in strict mode: the report says why.
func WithPlugin(paths ...string) Option {
	return func(c *config) error {
		for _, p := range paths {
			if !filepath.IsAbs(p) {
				return fmt.Errorf("plugin %q is not absolute: %w", p, ErrArgument)
			}
		}
		c.plugins = append(c.plugins, plugin.Files(paths, "option")...)
		return nil
	}
}

// addPlugins loads what WithPlugin and the environment name.
func (rt *Runtime) addPlugins(c *config) error {
	for _, p := range plugin.Guarded(c.plugins, rt.guard) {
		b, tried := plugin.Load(plugin.Stem(p.Path), []plugin.Place{p})
		if b == nil {
			rt.add(nil, tried)
		} else if why := rt.unwelcome(b); why != "" {
			tried[len(tried)-1].Fail(fmt.Errorf("%w: %s", ErrLibrary, why))
			rt.add(nil, tried)
			b.Close()
		} else {
			tried[len(tried)-1].Name = b.Name()
			rt.add(b, tried)
		}
		if err := c.refused(tried); err != nil {
			return err
		}
	}
	return nil
}

// unwelcome says why there is no room for a backend; it is empty where there is.
func (rt *Runtime) unwelcome(b backends.Backend) string {
	if slices.ContainsFunc(rt.backends, func(o backends.Backend) bool { return o.Name() == b.Name() }) {
		return fmt.Sprintf("a backend called %q is there already", b.Name())
	}
	more := map[backends.Op]int{}
	for _, k := range b.Kernels() {
		if more[k.Op]++; len(rt.arms[k.Op])+more[k.Op] > dispatch.MaxArms {
			return fmt.Sprintf("with those that are there already it has more than %d kernels of %v", dispatch.MaxArms, k.Op)
		}
	}
	return ""
}

// Backends returns what was opened, pure Go first: what package backends/conform holds against each other. They are the runtime's, and end with it.
func (rt *Runtime) Backends() []backends.Backend { return slices.Clone(rt.backends) }
