// SPDX-License-Identifier: Apache-2.0

// Package plan chooses how precisely each tensor of a model is stored, so that the whole keeps a budget.
//
// A tensor comes with candidates: ways to store it, each with its bytes and the error that it makes. [Candidates] measures them; [Solve] picks one a tensor, such that the errors of all are least within so many bytes, or
// the bytes within so much error. That is the multiple-choice knapsack problem. Its linear relaxation, which walks along the tensors' lower convex hulls (Shoham and Gersho, Efficient bit allocation for an arbitrary set of
// quantizers, 1988), is optimal but for one tensor; from there the best choice is found among the tensors nearest to a change (Pisinger, A minimal algorithm for the multiple-choice knapsack problem, 1995). A [Plan] says how far it
// can be from the best at most, and prints why each tensor got what it got.
package plan

import (
	"errors"
	"fmt"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/quant/stn"
)

// Sentinels for errors.Is.
var (
	ErrArgument   = errors.New("plan: invalid argument")
	ErrInfeasible = errors.New("plan: the budget cannot be kept")
)

// Kind says what a candidate stores.
type Kind uint8

// The kinds. The zero value is no kind.
const (
	Quantized Kind = 1 // codes and scales: ternary, quinary or sparse
	Int8Rows  Kind = 2 // int8 codes of −127 … 127 and a float32 scale a row, absmax/127
	F16       Kind = 3 // IEEE 754 binary16
	BF16      Kind = 4 // the upper half of a binary32
	F32       Kind = 5 // as it is
)

// String returns "quantized", "int8", "f16", "bf16" or "f32".
func (k Kind) String() string {
	switch k {
	case Quantized:
		return "quantized"
	case Int8Rows:
		return "int8"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	case F32:
		return "f32"
	}
	return "unknown kind"
}

// Candidate is a way to store a tensor.
type Candidate struct {
	Kind Kind

	// Of a Quantized one.
	Levels quant.Levels
	Rule   quant.Rule
	Group  int // values that share a scale, within a row; 0: one scale for the tensor; quant.PerRow: one a row
	Coding stn.Coding

	Bytes int64   // on disk: codes and what the coding needs beside them, scales
	Error float64 // Σ(x − q)²

	// What Candidates found out beside them; Solve does not look at it.
	Zeros   float64 // share of codes that are 0
	Entropy float64 // bits a code
}

// String names the candidate: "ternary least-squares row rans", "f16".
func (c Candidate) String() string {
	if c.Kind != Quantized {
		return c.Kind.String()
	}
	return fmt.Sprintf("%v %v %s %v", c.Levels, c.Rule, GroupName(c.Group), c.Coding)
}

// GroupName names what shares a scale: "tensor", "row" or a number of values.
func GroupName(group int) string {
	switch group {
	case 0:
		return "tensor"
	case quant.PerRow:
		return "row"
	}
	return fmt.Sprint(group)
}

// Tensor is a tensor and the ways to store it.
type Tensor struct {
	Name       string
	Values     int64       // how many
	Energy     float64     // Σx²: what errors are relative to
	Weight     float64     // of its error among those of the others; 0 counts as 1
	Candidates []Candidate // in any order, at least one

	Rows, SampledRows int // set by Candidates: when fewer rows were looked at than there are, bytes and errors are estimates
}

func (t *Tensor) weight() float64 {
	if t.Weight == 0 {
		return 1
	}
	return t.Weight
}

// Budget limits a plan; exactly one of its fields is above 0.
type Budget struct {
	Bytes         int64   // of all tensors together: the least error within it
	RelativeError float64 // Σ weight·error / Σ weight·energy: the fewest bytes within it
}

// InfeasibleError says that no choice keeps the budget, and what the least is. It wraps ErrInfeasible.
type InfeasibleError struct {
	Budget Budget
	Least  Budget // the tightest budget of the same sort that can be kept
}

// Error formats as "plan: the budget cannot be kept: 1000 bytes; the least possible is 2048".
func (e *InfeasibleError) Error() string {
	if e.Budget.Bytes > 0 {
		return fmt.Sprintf("%v: %d bytes; the least possible is %d", ErrInfeasible, e.Budget.Bytes, e.Least.Bytes)
	}
	return fmt.Sprintf("%v: a relative error of %.4g; the least possible is %.4g", ErrInfeasible, e.Budget.RelativeError, e.Least.RelativeError)
}

// Unwrap returns ErrInfeasible.
func (e *InfeasibleError) Unwrap() error { return ErrInfeasible }

// Plan is what Solve chose, with the evidence. Its String prints a table.
type Plan struct {
	Budget  Budget
	Choices []Choice // one a tensor, in their order

	Bytes    int64   // of all choices
	Error    float64 // Σ weight·error
	Relative float64 // Error / Σ weight·energy; 0 when all values are 0

	// Bound is what no choice can be below: of Error under a budget of bytes, of Bytes under one of error. It is the optimum of the linear relaxation, in which a tensor may be stored partly in one way and partly in another.
	Bound   float64
	Gap     float64 // how far the choice is above Bound, as a share of it; 0 when Bound is 0
	Optimal bool    // no better choice exists: the search was complete

	// Lambda is the price at which the relaxation stopped: what the next byte would have saved in Error. 0 when the budget was no limit.
	Lambda float64
}

// Choice is what one tensor got, and why.
type Choice struct {
	Tensor    string
	Index     int // in the tensor's Candidates
	Candidate Candidate
	Bits      float64 // a value
	Relative  float64 // error / energy of this tensor; 0 when all its values are 0

	// Lambda is the weighted error that each byte saved beyond the next cheaper candidate on the tensor's convex hull: the multiplier at which this one was chosen. 0 for the cheapest.
	Lambda float64

	Cheaper, Dearer *Step // what the next candidates in size would change; nil where there is none. Candidates that are larger and no better than another are left out
}

// Step is a change of one tensor's candidate.
type Step struct {
	To    Candidate
	Bytes int64   // more, or fewer when negative
	Error float64 // weighted error more, or less when negative
}
