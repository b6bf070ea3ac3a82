// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/setun-compute/setun/backends"
)

// stage is the state of a story. Its commands:
//
//	hardware cores=2 l3=33554432
//	arms OP cpu/go simd_c/avx2 simd_c/both*2      *2: keeps two threads busy; @1: works in memory 1; ~ at the end: not canonical
//	link MEMORY LAUNCH UP DOWN                    nanoseconds: a copy, a byte to the device, a byte from it
//	buffer NAME BYTES MEMORY                      a buffer with its content there
//	call OP SHAPE [+]NAME [+]NAME                 decides where buffers are, and runs; +: written, else read; prints where they are then
//	policy force=simd_c from=norm2:simd_c:1000
//	measure OP ARM                                input lines: shape and nanoseconds, "1000 250 260"
//	model OP ARM                                  prints what was fitted
//	decide OP SHAPE [fast] [without=ARM,ARM]
//	explain OP SHAPE [fast] [without=ARM,ARM] [json]
//	thresholds OP
//	shape OP TEXT
//	decode FINGERPRINT                            input: a profile
//	encode
type stage struct {
	hardware Hardware
	arms     map[backends.Op][]Arm
	policy   Policy
	profile  *Profile
	buffers  map[string]*Residence
}

func (s *stage) step(command string, input []string) string {
	words := strings.Fields(command)
	args := words[1:]
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch words[0] {
	case "hardware":
		for _, a := range args {
			key, value, _ := strings.Cut(a, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "cores":
				s.hardware.Cores = n
			case "l3":
				s.hardware.L3 = n
			}
		}
		return "ok"
	case "arms":
		return s.setArms(opOf(arg(0)), args[1:])
	case "policy":
		s.policy = Policy{}
		for _, a := range args {
			if force, ok := strings.CutPrefix(a, "force="); ok {
				s.policy.Force = force
			}
			if from, ok := strings.CutPrefix(a, "from="); ok {
				part := strings.Split(from, ":")
				size, _ := strconv.ParseFloat(part[2], 64)
				s.policy.From = map[backends.Op]map[string]float64{opOf(part[0]): {part[1]: size}}
			}
		}
		_, err := s.router()
		return verdict(err)
	case "measure":
		return s.measure(opOf(arg(0)), arg(1), input)
	case "model":
		m, _ := s.profile.Model(opOf(arg(0)), s.arm(opOf(arg(0)), arg(1)))
		out := fmt.Sprintf("coef %.3g\n", m.Coef)
		for _, c := range m.Cells {
			out += fmt.Sprintf("variant %d class %d: × %.2f ± %.0f %%, %d samples\n", c.Variant, c.Class, math.Exp(c.Log), 100*c.Spread, c.Samples)
		}
		return out
	case "decide", "explain":
		return s.decide(words[0], args)
	case "link":
		if s.profile == nil {
			s.profile = &Profile{Fingerprint: "story"}
		}
		var n [4]float64
		for i := range n {
			n[i], _ = strconv.ParseFloat(arg(i), 64)
		}
		s.profile.Links = append(s.profile.Links, Link{Memory(n[0]), n[1], n[2], n[3]})
		return "ok"
	case "buffer":
		if s.buffers == nil {
			s.buffers = map[string]*Residence{}
		}
		bytes, _ := strconv.ParseFloat(arg(1), 64)
		memory, _ := strconv.Atoi(arg(2))
		s.buffers[arg(0)] = &Residence{Bytes: bytes, In: 1 << memory}
		return "ok"
	case "call":
		return s.call(args)
	case "thresholds":
		r, err := s.router()
		if err != nil {
			return verdict(err)
		}
		out := ""
		list := r.Thresholds(opOf(arg(0)))
		for _, x := range list {
			out += fmt.Sprintf("from %d: %s\n", x.From, x.Arm)
		}
		if len(list) == 1 {
			out += "no crossing\n"
		}
		return out
	case "shape":
		shape, err := ParseShape(arg(0), strings.Join(args[1:], " "))
		if err != nil {
			return verdict(err)
		}
		return fmt.Sprintf("%s: work %g, bytes %g, flops %g, features %g", shape, shape.Work(), shape.Bytes(), shape.Flops(), shape.features())
	case "decode":
		p, err := DecodeProfile([]byte(strings.Join(input, "\n")), arg(0))
		if err == nil {
			s.profile = p
		}
		return verdict(err)
	case "encode":
		data, err := s.profile.Encode()
		if err != nil {
			return verdict(err)
		}
		return string(data)
	}
	return "unknown command " + words[0]
}

func (s *stage) setArms(op backends.Op, names []string) string {
	if s.arms == nil {
		s.arms = map[backends.Op][]Arm{}
	}
	s.arms[op] = nil
	for _, name := range names {
		name, fast := strings.CutSuffix(name, "~")
		name, memory, _ := strings.Cut(name, "@")
		m, _ := strconv.Atoi(memory)
		name, threads, _ := strings.Cut(name, "*")
		backend, kernel, _ := strings.Cut(name, "/")
		n, _ := strconv.Atoi(threads)
		s.arms[op] = append(s.arms[op], Arm{Backend: backend, Kernel: kernel, Threads: n, Fast: fast, Memory: Memory(m)})
	}
	return "ok"
}

func (s *stage) measure(op backends.Op, name string, input []string) string {
	var samples []Sample
	for _, line := range input {
		words := strings.Fields(line)
		shape, err := ParseShape(op.String(), words[0])
		if err != nil {
			return verdict(err)
		}
		for _, w := range words[1:] {
			ns, _ := strconv.ParseFloat(w, 64)
			samples = append(samples, Sample{shape, ns})
		}
	}
	if s.profile == nil {
		s.profile = &Profile{Fingerprint: "story"}
	}
	a := s.arm(op, name)
	s.profile.Set(op, a, Fit(Prior(op, a), samples))
	return fmt.Sprintf("%d samples", len(samples))
}

func (s *stage) decide(command string, args []string) string {
	r, err := s.router()
	if err != nil {
		return verdict(err)
	}
	shape, err := ParseShape(args[0], args[1])
	if err != nil {
		return verdict(err)
	}
	shape.Fast = slices.Contains(args, "fast")
	var excluded uint64
	for _, a := range args[2:] {
		if names, ok := strings.CutPrefix(a, "without="); ok {
			for _, name := range strings.Split(names, ",") {
				excluded |= 1 << slices.Index(s.arms[shape.Op], s.arm(shape.Op, name))
			}
		}
	}
	switch {
	case command == "decide":
		d := r.Decide(&shape, excluded)
		if d.Arm < 0 {
			return fmt.Sprintf("arm %d: %s", d.Arm, d.Reason)
		}
		return fmt.Sprintf("arm %d %s, %s: %s", d.Arm, r.Arms(shape.Op)[d.Arm], Duration(d.Nanos), d.Reason)
	case slices.Contains(args, "json"):
		data, err := json.MarshalIndent(r.Explain(shape, excluded), "", "  ")
		if err != nil {
			return verdict(err)
		}
		return string(data)
	}
	return r.Explain(shape, excluded).String()
}

func (s *stage) call(args []string) string {
	r, err := s.router()
	if err != nil {
		return verdict(err)
	}
	shape, err := ParseShape(args[0], args[1])
	if err != nil {
		return verdict(err)
	}
	var operands []Operand
	for _, a := range args[2:] {
		name, written := strings.CutPrefix(a, "+")
		operands = append(operands, Operand{s.buffers[name], !written, written})
	}
	d := r.DecideAt(&shape, operands, 0)
	r.Settle(&shape, operands, d.Arm)
	out := fmt.Sprintf("%s, %s, moving %s;", r.Arms(shape.Op)[d.Arm], Duration(d.Nanos), Duration(d.Moving))
	for i, o := range operands {
		out += fmt.Sprintf(" %s in", strings.TrimPrefix(args[2+i], "+"))
		for m := range Memory(NumMemories) {
			if o.In.Has(m) {
				out += fmt.Sprintf(" %d", m)
			}
		}
	}
	return out
}

func (s *stage) router() (*Router, error) { return s.hardware.NewRouter(s.arms, s.profile, s.policy) }

func (s *stage) arm(op backends.Op, name string) Arm {
	for _, a := range s.arms[op] {
		if a.String() == name {
			return a
		}
	}
	panic("the story has no arm " + name)
}

func opOf(name string) backends.Op {
	for _, op := range backends.Ops() {
		if op.String() == name {
			return op
		}
	}
	panic("the story has no op " + name)
}

// verdict prints an error with the sentinel that it wraps.
func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	for name, sentinel := range map[string]error{"ErrShape": ErrShape, "ErrPolicy": ErrPolicy, "ErrProfileDamaged": ErrProfileDamaged, "ErrProfileForeign": ErrProfileForeign, "ErrProfileVersion": ErrProfileVersion} {
		if errors.Is(err, sentinel) {
			return name + ": " + err.Error()
		}
	}
	return "an error without a sentinel: " + err.Error()
}
