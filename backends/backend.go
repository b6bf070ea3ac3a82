// SPDX-License-Identifier: Apache-2.0

package backends

import "context"

// Op names an operation. The numbers are those of the C ABI.
type Op uint8

// The ops.
const (
	OpQuantize  Op = 1
	OpConstrain Op = 2
	OpDot       Op = 3
	OpNorm2     Op = 4
	OpKMeans    Op = 5
	OpMatMul    Op = 6
	OpClusters  Op = 7 // constrain by clusters
	OpStep      Op = 8

	OpActivations Op = 9  // to int8, with a scale a row
	OpTernary     Op = 10 // ternary-matmul
	OpRecode      Op = 11 // codes in another format

	OpRMSNorm  Op = 12 // with its gradient, as the next two
	OpSoftmax  Op = 13
	OpActivate Op = 14 // ReLU² or SwiGLU
	OpUpdate   Op = 15 // moments and step of an optimiser
)

// Ops lists every op in the order of their numbers.
func Ops() []Op {
	return []Op{OpQuantize, OpConstrain, OpDot, OpNorm2, OpKMeans, OpMatMul, OpClusters, OpStep, OpActivations, OpTernary, OpRecode, OpRMSNorm, OpSoftmax, OpActivate, OpUpdate}
}

// String returns the op's name as commands print it.
func (o Op) String() string {
	names := [...]string{"", "quantize", "constrain", "dot", "norm2", "kmeans", "matmul", "constrain-clusters", "step", "activations", "ternary-matmul", "recode", "rmsnorm", "softmax", "activate", "update"}
	if int(o) >= len(names) || names[o] == "" {
		return "unknown op"
	}
	return names[o]
}

// Kernel is one implementation of one op.
type Kernel struct {
	Op      Op
	Name    string // short and stable: "go", "avx2"; unique within its backend and op
	Threads int    // threads that it keeps busy
	Index   int    // the backend's own number for it
	Memory  uint8  // in which its operands have to be: 0 the host's, 1 and more a device's
	Fast    bool   // its results are not canonical: only for calls that ask for fast numerics
	Many    bool   // of k-means: its backend is Together, and this kernel takes many fits
}

// Together is a backend with kernels that run many small fits of k-means in one call. After an error all outputs but Failed are unspecified.
type Together interface {
	KMeansMany(ctx context.Context, k Kernel, a *KMeansMany) error
}

// Backend computes. Methods are safe for concurrent use, check nothing that Check has checked, and return errors
// that wrap the sentinels of this package. k is one of Kernels, of the method's op.
type Backend interface {
	Name() string
	Kernels() []Kernel
	Quantize(k Kernel, a *Quantize) error
	Constrain(k Kernel, a *Constrain) error
	Reduce(k Kernel, a *Reduce) error // Dot and Norm2
	KMeans(ctx context.Context, k Kernel, a *KMeans) error
	MatMul(k Kernel, a *MatMul) error
	ConstrainClusters(k Kernel, a *Clusters) error
	Step(k Kernel, a *Step) error
	Activations(k Kernel, a *Activations) error
	Ternary(k Kernel, a *Ternary) error
	Recode(k Kernel, a *Recode) error
	RMSNorm(k Kernel, a *RMSNorm) error
	Softmax(k Kernel, a *Softmax) error
	Activate(k Kernel, a *Activate) error
	Update(k Kernel, a *Update) error
	Close() error
}
