// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/blas"
	"github.com/setun-compute/setun/internal/admit"
	"github.com/setun-compute/setun/internal/plugin"
	"github.com/setun-compute/setun/internal/quarantine"
)

// Libraries of the system, which is a BLAS: they are no backends, may be large, and are found by name. So a file is remembered by its path, size and times, not by a digest of its content. Of a name it is
// remembered which file it led to, or that it led to none, for as long as all that decides it stays as it is; what a library did is remembered of its file, and of a name for this process at most.

var _ plugin.SystemGate = (*Guard)(nil)

// AdmitSystem decides about a library of the system, by its path or, if it is named, by what the system's loader finds under a name. What it returns is the file that was tried; the name, where no file
// is known for it.
func (g *Guard) AdmitSystem(name string, named bool) (file string, p plugin.Pass, state plugin.State, err error) {
	if !named {
		p, state, err = g.admitFile(name)
		return name, p, state, err
	}
	p.Source = "off"
	asked := g.name(name)
	if !g.Off {
		defer alone("name " + g.Folder + name)()
	}
	if state, err := g.barred(&p, asked); err != nil {
		return "", p, state, err
	}
	again := g.store.Pending(asked) // only of a name without a file
	v, here, found := g.store.Verdict(asked, systemScope())
	switch {
	case found && v.Path != "" && stamp(v.Path) != "":
	case found && v.Path == "" && (v.Missing != "" || len(again) == 0):
	case g.Off:
		return name, p, "", nil
	default:
		if v, state, err = g.ask(name, asked, again); err != nil {
			return "", p, state, err
		}
	}
	switch {
	case v.Path != "":
		p, state, err = g.admitFile(v.Path)
		return v.Path, p, state, err
	case v.Missing != "":
		return "", p, plugin.Missing, &reported{v.Missing, []error{backends.ErrLibrary}}
	}
	said(&p, v, found && len(again) == 0, here)
	state, err = g.barred(&p, asked)
	return name, p, state, err
}

// ask has another process find out what a name leads to. Where it cannot say which file that is it tries the library. What it says holds for other processes if it is a file, or that there is none.
func (g *Guard) ask(name string, asked quarantine.Library, again []quarantine.Suspect) (v quarantine.Verdict, state plugin.State, err error) {
	o, again := g.retry(again, func(again []quarantine.Suspect) outcome {
		return g.run(spec{System: name, Named: true, Cores: g.Cores, Again: calls(again)}, limit, nil)
	})
	v = quarantine.Verdict{Library: asked, Scope: systemScope(), Path: o.found}
	switch {
	case o.found != "": // whatever came of it: it is the file that is asked about
	case !o.absent && o.died == "" && o.Sentinel == nothingThere:
		v.Missing = quarantine.Clean(o.Error, 1000)
	case !o.absent && o.died != "" && !o.starved(), o.Kind == unfit: // it may be a file that is being written
		e := g.store.Keep(asked, quarantine.Load, o.complaint())
		return v, plugin.Failed, &reported{fmt.Sprintf("%v: %s; which file it is is not known, so it is left out until this process ends", ErrProbe, e.Reason), []error{o.sentinel(), ErrProbe}}
	default:
		if state, err := g.fate(o, asked); err != nil {
			return v, state, err
		}
		g.wrong(asked, o.Failures)
		g.settle(again, &o)
		v.Version, v.Kernels, v.Took = o.Version, o.Kernels, time.Duration(o.Nanos)
	}
	if g.name(name) == asked {
		g.store.Pass(lasting && (v.Path != "" || v.Missing != ""), v)
	}
	return v, "", nil
}

// lasting: elsewhere it is not known what makes a name lead to another file.
const lasting = runtime.GOOS == "linux"

// admitFile decides about a library of the system by its path.
func (g *Guard) admitFile(path string) (p plugin.Pass, state plugin.State, err error) {
	p.Source = "off"
	f, err := admit.OpenForeign(path) // also before another process loads it
	if err != nil {
		return p, plugin.Refused, err
	}
	f.Close()
	if !g.Off {
		defer alone("file " + g.Folder + path)()
	}
	l := g.file(path)
	p.Unchanged = func() error {
		if g.file(path) != l {
			return fmt.Errorf("%w: %s was written or replaced since it was tried", admit.ErrUnsafe, path)
		}
		return nil
	}
	again := g.store.Pending(l)
	v, here, found := g.store.Verdict(l, systemScope())
	if state, err := g.barred(&p, l, v.Entries()...); err != nil || g.Off {
		return p, state, err
	}
	if !found || len(again) > 0 {
		o, again := g.retry(again, func(again []quarantine.Suspect) outcome {
			return g.run(spec{System: path, Cores: g.Cores, Again: calls(again)}, limit, nil)
		})
		if err := p.Unchanged(); err != nil { // nobody knows which one it was
			return p, plugin.Refused, err
		}
		switch state, err := g.fate(o, l); {
		case found && errors.Is(err, ErrNoProbe): // what is suspect waits for a program that can make one
		case err != nil:
			return p, state, err
		default:
			g.wrong(l, o.Failures)
			found, v = false, quarantine.Verdict{Library: l, Scope: systemScope(), Version: o.Version, Kernels: o.Kernels, Took: time.Duration(o.Nanos)}
			g.store.Pass(lasting, v)
			g.settle(again, &o)
		}
	}
	said(&p, v, found, here)
	state, err = g.barred(&p, l)
	return p, state, err
}

// said puts into a pass what was said of a library, and when that was.
func said(p *plugin.Pass, v quarantine.Verdict, found, here bool) {
	p.Kernels, p.Took, p.Source = v.Kernels, v.Took, "probe"
	switch {
	case found && here:
		p.Source = "process"
	case found:
		p.Source = "disk"
	}
}

// barred is the error for a library that is quarantined, or its only op is, or of which that is known otherwise. It notes under which identity it is remembered.
func (g *Guard) barred(p *plugin.Pass, l quarantine.Library, known ...quarantine.Entry) (plugin.State, error) {
	p.Identity = l.Digest
	for _, e := range append(g.store.Find(l), known...) {
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

// file is the identity of a library of the system in a file. Links are followed: what they lead to may change.
func (g *Guard) file(path string) quarantine.Library {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	return g.remember(real, "file "+real+" "+stamp(real))
}

// name is the identity of a name, and of all that decides which file it leads to, as far as that can be seen: where the loader is told to look, its cache and the folders that it always looks into. A file
// that is being written changes neither its folder's times nor the cache, so it is looked at by itself.
func (g *Guard) name(name string) quarantine.Library {
	var b strings.Builder
	see := func(path string) { b.WriteString("\n" + path + " " + stamp(path)) }
	for _, variable := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES"} {
		b.WriteString("\n" + variable)
		for _, path := range searched(variable, os.Getenv(variable)) {
			see(path)
			see(filepath.Join(path, name))
		}
	}
	for _, folder := range []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"} {
		see(filepath.Join(folder, name))
	}
	see("/etc/ld.so.cache")
	return g.remember(name, "name "+name+b.String())
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

// nothingThere is the sentinel of a name under which the loader has found no file. That one could not be loaded is no such thing: it may be there half, need another one, or memory.
const nothingThere = "no such file"

// system tries a library of the system, in the child. Of a name it says which file it led to, if it can: that is tried by its path then.
func (r *result) system(s *spec, step, found func(text string)) {
	step("loading it")
	b, a := blas.Try(s.System, s.Named, func(file string) (enough bool) {
		if s.Named && isFile(file) {
			found(file)
			return true
		}
		step(backends.OpMatMul.String() + "/" + blas.Name)
		return false
	})
	r.Version, r.Kernels = a.Version, len(a.Kernels)
	switch {
	case b != nil:
		r.again(s, b, step)
	case a.Err == nil: // it was enough
	case a.State == plugin.Failed, isUnfit(a.Err):
		r.fail(unfit, a.State, a.Err)
	default: // something that it needs may be missing, or the library itself is
		if r.fail(transient, a.State, a.Err); errors.Is(a.Err, fs.ErrNotExist) {
			r.Sentinel = nothingThere
		}
	}
}

// isFile says whether what the loader says of a library is a file's path that can be told in a line. It may be a name that no file has, or relative.
func isFile(path string) bool {
	return filepath.IsAbs(path) && len(path) <= 4096 && utf8.ValidString(path) && !strings.ContainsFunc(path, unicode.IsControl) && stamp(path) != ""
}

// complaint says what was wrong with a library whose probe it failed.
func (o *outcome) complaint() string {
	switch {
	case o.died == "":
		return o.Error
	case o.at == "":
		return "the process that tried it " + o.died
	}
	return "the process that tried it " + o.died + ", when " + doing(o.at)
}
