// SPDX-License-Identifier: Apache-2.0

// Package jsonbound bounds what a JSON text can become in memory, before any of it does: two bytes of a list are an element, which may be a large struct.
package jsonbound

// Commas counts the commas of a text that are not in strings. Lists and objects have one element more than commas each.
func Commas(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case c == ',' && !quoted:
			n++
		}
	}
	return n
}
