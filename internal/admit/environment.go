// SPDX-License-Identifier: Apache-2.0

package admit

import "os"

// Getenv is os.Getenv, but for a process that is Raised: whoever started that chose its environment, and nothing in it may say what is loaded or written.
func Getenv(variable string) string {
	if Raised() {
		return ""
	}
	return os.Getenv(variable)
}

// Ignored lists which of the variables are set, and not believed because the process is Raised.
func Ignored(variables ...string) (list []string) {
	if !Raised() {
		return nil
	}
	for _, v := range variables {
		if os.Getenv(v) != "" {
			list = append(list, v)
		}
	}
	return list
}
