// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"
	"strings"
)

// FilesVariable is the environment variable that lists libraries of third parties, by their absolute paths.
const FilesVariable = "SETUN_PLUGINS"

// Files returns libraries as places. Those whose path is not absolute are refused when they are loaded, in words.
func Files(paths []string, origin string) []Place {
	var list []Place
	for _, p := range paths {
		if p != "" {
			list = append(list, Place{Path: p, File: true, Others: true, Origin: origin})
		}
	}
	return list
}

// Listed returns the libraries of such a list, separated as in PATH.
func Listed(list string) []Place { return Files(filepath.SplitList(list), FilesVariable) }

// Stem is what a library's file is called: "mine" of /opt/libsetun_mine.so.
func Stem(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return strings.TrimPrefix(strings.TrimPrefix(name, "lib"), "setun_")
}
