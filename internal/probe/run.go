// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/setun-compute/setun/internal/quarantine"
)

const (
	maxOutput = 64 << 10 // of the result
	maxErrors = 4 << 10  // of standard error
	farewell  = time.Second
	nowhere   = string(filepath.Separator) // the child's working directory: one that not everybody can write, whatever looks there
)

// run starts a child and waits for its end, at most until ctx ends. program is the one to start; "" is this one.
func run(ctx context.Context, program string, s spec, library *os.File) (o outcome) {
	absent := func(err error) outcome {
		return outcome{absent: true, died: err.Error()}
	}
	nonce := make([]byte, nonceSize/2)
	if _, err := rand.Read(nonce); err != nil {
		return absent(err)
	}
	s.Revision, s.Parent, s.Nonce = revision, os.Getpid(), hex.EncodeToString(nonce)
	if program == "" {
		var err error
		if program, err = self(); err != nil {
			return absent(err)
		}
	}
	resultReader, resultWriter, err := os.Pipe()
	if err != nil {
		return absent(err)
	}
	errorsReader, errorsWriter, err := os.Pipe()
	if err != nil {
		resultReader.Close()
		resultWriter.Close()
		return absent(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, program)
	c.Args = []string{"setun-probe"}
	c.Dir = nowhere
	c.Stderr = errorsWriter // a file, so that Wait waits for the process alone and not for what it may have started
	c.Cancel = func() error { return end(c.Process) }
	apart(c)
	give(c, &s, library, resultWriter)
	text, err := json.Marshal(s)
	if err != nil {
		return absent(err)
	}
	c.Env = environment(string(text), &s)

	// The child ends with the thread that has started it, so that thread must not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = c.Start()
	resultWriter.Close()
	errorsWriter.Close()
	if err != nil {
		resultReader.Close()
		errorsReader.Close()
		return absent(err)
	}
	result := collect(resultReader, maxOutput, cancel)
	complaints := collect(errorsReader, maxErrors, nil)
	err = c.Wait()
	_ = end(c.Process) // what it has started
	output, excess := result.take()
	said, _ := complaints.take()
	o.died = cause(ctx, err, c.ProcessState, excess)
	o.read(s.Nonce, output)
	if line := telling(said); o.died != "" && line != "" {
		o.died += ": " + line
	}
	return o
}

// cause says in words how a child ended, and nothing when it ended well.
func cause(ctx context.Context, err error, state *os.ProcessState, excess bool) string {
	var failed *exec.ExitError
	switch {
	case excess:
		return fmt.Sprintf("wrote more than %d bytes where its result belongs", maxOutput)
	case ctx.Err() != nil && context.Cause(ctx) == errSlow:
		return "did not end in time"
	case ctx.Err() != nil:
		return "was stopped"
	case err == nil:
		return ""
	case !errors.As(err, &failed):
		return err.Error()
	}
	if name := signalled(state); name != "" {
		return "was ended by " + name
	}
	return fmt.Sprintf("ended with code %d", state.ExitCode())
}

// errSlow is the cause of a context that was not over by itself.
var errSlow = errors.New("the probe takes too long")

// telling picks the lines that say most: the first about want of memory or threads, and a sanitizer's, Go's name for a signal with the line before it, else the last one.
func telling(said []byte) string {
	want, most := "", ending(said)
	for line := range bytes.Lines(said) {
		text := quarantine.Clean(string(line), 200)
		if starving(text) && !strings.HasPrefix(text, "#") { // in a sanitizer's stack are names of functions, which say nothing
			want = text
			break
		}
	}
	if strings.Contains(most, want) {
		return most
	}
	return want + "; " + most
}

// ending is what was said of the end.
func ending(said []byte) string {
	last := ""
	for line := range bytes.Lines(said) {
		text := quarantine.Clean(string(line), 200)
		if strings.Contains(text, "Sanitizer: ") || strings.Contains(text, ": runtime error: ") {
			return text
		}
		if name, _, found := strings.Cut(text, ": "); found && strings.HasPrefix(name, "SIG") {
			return strings.TrimPrefix(last+"; "+text, "; ")
		}
		if text != "" {
			last = text
		}
	}
	return last
}

// collected is what is read from a pipe, beside the child, at most so much.
type collected struct {
	from   *os.File
	done   chan struct{}
	data   []byte
	excess bool
}

// collect reads from a pipe until it is closed. What is beyond the limit calls full, or is read and forgotten.
func collect(from *os.File, most int, full func()) *collected {
	c := &collected{from: from, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.data, _ = io.ReadAll(io.LimitReader(from, int64(most)))
		more := make([]byte, 4096)
		for {
			n, err := from.Read(more)
			if n > 0 && full != nil {
				c.excess = true
				full()
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

// take returns what was read. A process that the child has started, and that got away from its group, may still hold the pipe: nobody waits for that long.
func (c *collected) take() ([]byte, bool) {
	select {
	case <-c.done:
	case <-time.After(farewell):
		_ = c.from.SetReadDeadline(time.Now())
		<-c.done
	}
	c.from.Close()
	return c.data, c.excess
}
