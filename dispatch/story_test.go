// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rewrite accepts what the stories say now.
var rewrite = flag.Bool("rewrite", false, "write what the stories say now into their files")

// TestRoutes runs testdata/*.txt. A story is a list of steps: a command line, lines of input, "----", the expected
// output, a blank line. Lines that begin with # are for the reader. After a wanted change of behaviour: go test ./dispatch -rewrite
func TestRoutes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told := tell(t, string(data))
			if told == string(data) {
				return
			}
			if !*rewrite {
				t.Errorf("%s says something else now (go test ./dispatch -rewrite accepts it):\n%s", file, told)
			} else if err := os.WriteFile(file, []byte(told), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tell runs the steps of a story and returns it with the outputs that it has now.
func tell(t *testing.T, story string) string {
	var out strings.Builder
	s := stage{}
	for block := range strings.SplitSeq(strings.TrimRight(story, "\n"), "\n\n") {
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		var command string
		var input []string
		isStep := false
		for line := range strings.SplitSeq(block, "\n") {
			if line == "----" {
				isStep = true
				break
			}
			out.WriteString(line + "\n")
			switch {
			case strings.HasPrefix(line, "#"):
			case command == "":
				command = line
			default:
				input = append(input, line)
			}
		}
		if !isStep {
			if command != "" {
				t.Fatalf("the step %q has no line of dashes", command)
			}
			continue
		}
		result := strings.TrimRight(s.step(command, input), "\n")
		fmt.Fprintf(&out, "----\n%s\n", result)
	}
	return out.String()
}
