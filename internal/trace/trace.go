// SPDX-License-Identifier: Apache-2.0

// Package trace keeps the calls of a program: a file of JSON lines, a header and then one line a call, so that a file of a program that was killed is whole but for its last line.
package trace

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/dispatch"
)

// Version is that of the format.
const Version = 1

// ErrDamaged is wrapped by the error for a file that is no trace.
var ErrDamaged = errors.New("trace is damaged")

const (
	maxLine   = 1 << 16
	maxCalls  = 1 << 24
	maxArms   = 64
	maxFiles  = 100 // that Create tries
	maxSize   = 1 << 56
	maxNanos  = 1e18
	flushSize = 1 << 16
	flushTime = time.Second // after which what was written is on its way to the file: a program may be killed
)

// Header says on what the calls ran.
type Header struct {
	Version     int                       `json:"setun_trace"`
	Fingerprint string                    `json:"fingerprint"`
	Machine     string                    `json:"machine"`
	Arms        map[string][]dispatch.Arm `json:"arms"` // by op, in the order that decisions count them
}

// Call is one call that ended well.
type Call struct {
	Op     string  `json:"op"`
	N      int64   `json:"n"` // this and the following as in dispatch.Shape
	D      int64   `json:"d,omitempty"`
	K      int64   `json:"k,omitempty"`
	M      int64   `json:"m,omitempty"`
	Batch  int64   `json:"batch,omitempty"`
	Groups int64   `json:"groups,omitempty"`
	Out    int64   `json:"out,omitempty"`
	Kind   uint8   `json:"variant,omitempty"`
	Beside bool    `json:"beside,omitempty"` // other calls were in flight
	Fast   bool    `json:"fast,omitempty"`
	Kernel string  `json:"kernel"`
	Nanos  float64 `json:"ns"`              // of a part
	Parts  float64 `json:"parts,omitempty"` // iterations of kmeans, if not 1
}

// NewCall describes a call.
func NewCall(s *dispatch.Shape, kernel string, nanos, parts float64) Call {
	c := Call{Op: s.Op.String(), N: s.N, D: s.D, K: s.K, M: s.M, Batch: s.Batch, Groups: s.Groups, Out: s.Out, Kind: uint8(s.Variant &^ dispatch.Beside), Beside: s.Variant&dispatch.Beside != 0, Fast: s.Fast, Kernel: kernel, Nanos: nanos}
	if parts != 1 {
		c.Parts = parts
	}
	return c
}

// Shape is that of the call. The op must be known.
func (c *Call) Shape() dispatch.Shape {
	s := dispatch.Shape{Op: opNamed(c.Op), N: c.N, D: c.D, K: c.K, M: c.M, Batch: c.Batch, Groups: c.Groups, Out: c.Out, Variant: dispatch.Variant(c.Kind), Fast: c.Fast}
	if c.Beside {
		s.Variant |= dispatch.Beside
	}
	return s
}

func opNamed(name string) backends.Op {
	for _, op := range backends.Ops() {
		if op.String() == name {
			return op
		}
	}
	return 0
}

// Writer writes a trace. Any number of goroutines may add calls.
type Writer struct {
	mutex sync.Mutex
	file  *os.File
	buf   *bufio.Writer
	enc   *json.Encoder
	last  time.Time // that the buffer was emptied
	err   error
}

// Create begins a trace in a new file: path, or path.2, path.3 and so on, as several runtimes of a program may be told the same.
func Create(path string, h Header) (*Writer, error) {
	name := path
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	for i := 2; errors.Is(err, os.ErrExist) && i <= maxFiles; i++ {
		name = fmt.Sprintf("%s.%d", path, i)
		f, err = os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	w := &Writer{file: f, buf: bufio.NewWriterSize(f, flushSize)}
	w.enc = json.NewEncoder(w.buf)
	h.Version = Version
	if err := errors.Join(w.enc.Encode(h), w.flush()); err != nil {
		f.Close()
		return nil, fmt.Errorf("trace: %w", err)
	}
	return w, nil
}

// Add writes a call. An error is kept for Close.
func (w *Writer) Add(c Call) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.err == nil {
		w.err = w.enc.Encode(c)
	}
	if w.err == nil && time.Since(w.last) > flushTime {
		w.err = w.flush()
	}
}

func (w *Writer) flush() error {
	w.last = time.Now()
	return w.buf.Flush()
}

// Close ends the trace, and returns the first error of all.
func (w *Writer) Close() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if err := errors.Join(w.err, w.buf.Flush(), w.file.Close()); err != nil {
		return fmt.Errorf("trace %s: %w", w.file.Name(), err)
	}
	return nil
}

// Trace is what a file has.
type Trace struct {
	Header
	Calls []Call
	Torn  bool // the last line was cut off, and is left out
	More  bool // and so are the calls after the first 16,777,216
}

// Read reads a trace, up to 16,777,216 calls of it. Nothing in it is believed before it has been checked. Errors wrap ErrDamaged and name the line.
func Read(r io.Reader) (*Trace, error) { return read(r, maxCalls) }

func read(r io.Reader, most int) (*Trace, error) {
	t := new(Trace)
	b := bufio.NewReaderSize(r, maxLine)
	for line := 1; ; line++ {
		text, err := b.ReadSlice('\n')
		switch {
		case err == io.EOF && len(text) == 0 && line > 1:
			return t, nil
		case err == io.EOF && line > 1:
			t.Torn = true
			return t, nil
		case err == bufio.ErrBufferFull:
			return nil, fmt.Errorf("%w: line %d is longer than %d bytes", ErrDamaged, line, maxLine)
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("trace: %w", err)
		case line == 1:
			if err := t.header(text); err != nil {
				return nil, fmt.Errorf("%w: line 1: %w", ErrDamaged, err)
			}
			continue
		case len(t.Calls) == most:
			t.More = true
			return t, nil
		}
		var c Call
		if err := json.Unmarshal(text, &c); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, line, err)
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, line, err)
		}
		t.Calls = append(t.Calls, c)
	}
}

func (t *Trace) header(text []byte) error {
	if err := json.Unmarshal(text, &t.Header); err != nil {
		return err
	}
	if t.Version != Version {
		return fmt.Errorf("version %d, wanted %d", t.Version, Version)
	}
	for op, arms := range t.Arms {
		if opNamed(op) == 0 {
			return fmt.Errorf("there is no op %.80q", op)
		}
		if len(arms) > maxArms {
			return fmt.Errorf("%d arms for %s, the limit is %d", len(arms), op, maxArms)
		}
	}
	return nil
}

func (c *Call) check() error {
	if opNamed(c.Op) == 0 {
		return fmt.Errorf("there is no op %.80q", c.Op)
	}
	for _, size := range []int64{c.N, c.D, c.K, c.M, c.Batch, c.Groups, c.Out} {
		if size < 0 || size > maxSize {
			return fmt.Errorf("the size %d", size)
		}
	}
	if !(c.Nanos >= 0 && c.Nanos <= maxNanos) || !(c.Parts >= 0 && c.Parts <= math.MaxInt32) {
		return fmt.Errorf("%v parts of %v ns", c.Parts, c.Nanos)
	}
	if dispatch.Variant(c.Kind) >= dispatch.Beside {
		return fmt.Errorf("the variant %d", c.Kind)
	}
	return nil
}
