// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"slices"
	"strings"

	"github.com/setun-compute/setun/internal/admit"
)

// passed are the variables that the child gets, all of them such as decide how the library is loaded or what it finds. There is no PATH: nothing is to be started.
func passed(name string, s *spec) bool {
	cuda := s.Name == cudaName
	switch name {
	case "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH": // the loader must find what it would find here
		return true
	case "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS": // likewise; a library with a sanitizer needs its runtime first
		return true
	case "SETUN_CUDA_DRIVER": // which driver: tests have one of their own. A raised process takes the system's, and a helper that is not must do so too
		return cuda && !admit.Raised()
	case "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES": // which devices there are
		return cuda
	case "HOME", "CUDA_CACHE_PATH", "CUDA_CACHE_DISABLE", "CUDA_CACHE_MAXSIZE": // where the driver keeps compiled kernels; without, each probe would compile them
		return cuda
	}
	return s.System != "" && tunes(name)
}

// environment is the child's.
func environment(text string, s *spec) []string {
	// Go prints what signal it was; the stacks of goroutines would hide that.
	list := []string{ChildVariable + "=" + text, "GOTRACEBACK=none"}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if passed(name, s) {
			list = append(list, name+"="+strings.Join(searched(name, value), ":"))
		}
	}
	return list
}

// searched are the elements of a variable that tells the loader where to look, but for those that stand for the working directory or something below it, where others may have put a file: an empty folder
// or a relative one, and a library to be loaded first whose relative path is more than a name. Of any other variable it is the value.
func searched(name, value string) []string {
	var between string // elements
	names := false     // an element without a slash is a library's name
	switch name {
	case "LD_LIBRARY_PATH":
		between = ":;" // as glibc has it
	case "DYLD_LIBRARY_PATH":
		between = ":"
	case "LD_PRELOAD":
		between, names = ": ", true
	case "DYLD_INSERT_LIBRARIES":
		between, names = ":", true
	default:
		return []string{value}
	}
	list := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(between, r) })
	return slices.DeleteFunc(list, func(element string) bool {
		return !strings.HasPrefix(element, "/") && !(names && !strings.Contains(element, "/"))
	})
}
