// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/quarantine"
)

// Libraries of the system, which is a BLAS: they are no backends, may be large, and are found by name. So they are remembered by the file's path, size and times, not by a digest of its content; and for a
// name it is remembered which file it led to, for as long as the loader's cache and the folders that it is told of stay as they are.

var _ plugin.SystemGate = (*Guard)(nil)

// AdmitSystem decides about a library of the system, by its path or by a name that the system's loader knows. What it returns is the file that was tried.
func (g *Guard) AdmitSystem(name string) (file string, p plugin.Pass, state plugin.State, err error) {
	p.Source = "off"
	var asked quarantine.Library // what is known of the name
	if filepath.IsAbs(name) {
		f, err := admit.OpenForeign(name) // also before another process loads it
		if err != nil {
			return "", p, plugin.Refused, err
		}
		f.Close()
		file = name
	} else {
		asked = g.remember(name, "name "+name+loader())
		if state, err := g.barred(&p, asked); err != nil {
			return "", p, state, err
		}
	}
	if !g.Off {
		defer alone(g.Folder + name)()
		if file == "" {
			v, _, _ := g.store.Verdict(asked, systemScope())
			if v.Missing != "" {
				return "", p, plugin.Missing, &reported{v.Missing, []error{backends.ErrLibrary}}
			}
			file = v.Path
		}
	}
	var again []quarantine.Suspect
	if l, ok := g.ofFile(file); ok {
		again = g.store.Pending(l)
		if state, err := g.barred(&p, l); err != nil {
			return "", p, state, err
		}
		if v, here, found := g.store.Verdict(l, systemScope()); found && !g.Off && len(again) == 0 {
			if p.Kernels, p.Took, p.Source = v.Kernels, v.Took, "disk"; here {
				p.Source = "process"
			}
			return file, p, "", nil
		}
	}
	if g.Off {
		return name, p, "", nil
	}
	return g.trySystem(name, asked, again)
}

// trySystem makes a probe of a library of the system and keeps what it said.
func (g *Guard) trySystem(name string, asked quarantine.Library, again []quarantine.Suspect) (file string, p plugin.Pass, state plugin.State, err error) {
	o := g.run(spec{System: name, Cores: g.Cores, Again: calls(again)}, limit, nil)
	if file = name; o.found != "" {
		file = o.found
	}
	l, known := g.ofFile(file)
	if !known { // it ended before it could say, or there is no such file: some systems have their libraries elsewhere
		l, file = asked, name
	}
	lasting := runtime.GOOS == "linux" // elsewhere it is not known what makes a name lead to another file
	if asked.Digest != "" && !o.absent && o.died == "" && o.Kind == transient {
		g.store.Pass(lasting, quarantine.Verdict{Library: asked, Scope: systemScope(), Missing: quarantine.Clean(o.Error, 1000)})
	}
	if asked.Digest != "" && known { // whatever came of it: the next time it is the file that is asked about
		g.store.Pass(lasting, quarantine.Verdict{Library: asked, Scope: systemScope(), Path: file})
	}
	if state, err := g.fate(o, l); err != nil {
		return "", p, state, err
	}
	g.settle(again, o.Failures)
	g.wrong(l, o.Failures)
	v := quarantine.Verdict{Library: l, Scope: systemScope(), Version: o.Version, Kernels: o.Kernels, Took: time.Duration(o.Nanos)}
	g.store.Pass(lasting && known, v)
	p = plugin.Pass{Kernels: v.Kernels, Took: v.Took, Source: "probe"}
	state, err = g.barred(&p, l)
	return file, p, state, err
}

// barred is the error for a library that is quarantined, or its only op is. It notes under which identity it is remembered.
func (g *Guard) barred(p *plugin.Pass, l quarantine.Library) (plugin.State, error) {
	p.Identity = l.Digest
	for _, e := range g.store.Find(l) {
		return plugin.Quarantined, fmt.Errorf("%w: %v", ErrQuarantined, e)
	}
	return "", nil
}

// remember is the identity of a library of the system that such a text stands for.
func (g *Guard) remember(name, text string) quarantine.Library {
	sum := sha256.Sum256([]byte(text))
	l := quarantine.Library{Digest: hex.EncodeToString(sum[:]), File: quarantine.Clean(filepath.Base(name), 255), Machine: g.machine, Contract: Contract()}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.known[l.Digest] = l
	return l
}

// ofFile is the identity of a library of the system in a file. Links are followed: what they lead to may change.
func (g *Guard) ofFile(path string) (l quarantine.Library, ok bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || path == "" || !filepath.IsAbs(real) {
		return l, false
	}
	stamp := stamp(real)
	return g.remember(real, "file "+stamp), stamp != real
}

// stamp tells one content of a file or folder from the next, without reading it.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path
	}
	return fmt.Sprintf("%s %d %d %s", path, info.Size(), info.ModTime().UnixNano(), place(info))
}

// loader is all that decides which file a name leads to, as far as that can be seen.
func loader() string {
	var b strings.Builder
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES"} {
		value := os.Getenv(name)
		fmt.Fprintf(&b, "\n%s=%s", name, value)
		for _, folder := range filepath.SplitList(value) {
			b.WriteString("\n" + stamp(folder))
		}
	}
	return b.String() + "\n" + stamp("/etc/ld.so.cache")
}

// systemScope is what a probe of a BLAS depended on beside the file: how many threads it was told to start, which kernels to choose.
func systemScope() string {
	var list []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); tunes(name) {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	sum := sha256.Sum256([]byte(strings.Join(list, "\x00")))
	return fmt.Sprintf("%s, settings %x", blas.Name, sum[:8])
}

// tunes says whether a variable is one by which a BLAS is told what to do.
func tunes(name string) bool {
	return slices.ContainsFunc([]string{"OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "OMP_", "GOMP_", "KMP_"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// system tries a library of the system, in the child.
func (r *result) system(s *spec, step, found func(text string)) {
	step("loading it")
	b, a := blas.Try(s.System, func(file string) {
		if file != "" {
			found(file)
		}
		step(backends.OpMatMul.String() + "/" + blas.Name)
	})
	r.Version, r.Kernels = a.Version, len(a.Kernels)
	switch {
	case b != nil:
		r.again(s, b, b.Kernels(), step)
	case a.State == plugin.Failed, isUnfit(a.Err):
		r.fail(unfit, a.State, a.Err)
	default: // something that it needs may be missing, or the library itself is
		r.fail(transient, a.State, a.Err)
	}
}
