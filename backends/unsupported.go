// SPDX-License-Identifier: Apache-2.0

package backends

import "context"

// Unsupported refuses every op with ErrUnsupported. A backend that has a few ops embeds it and gives those.
type Unsupported struct{}

func refuse(op Op) error { return Fail(ErrUnsupported, op, "", "the backend does not have this op") }

// Quantize returns ErrUnsupported.
func (Unsupported) Quantize(Kernel, *Quantize) error { return refuse(OpQuantize) }

// Constrain returns ErrUnsupported.
func (Unsupported) Constrain(Kernel, *Constrain) error { return refuse(OpConstrain) }

// Reduce returns ErrUnsupported.
func (Unsupported) Reduce(k Kernel, _ *Reduce) error { return refuse(k.Op) }

// KMeans returns ErrUnsupported.
func (Unsupported) KMeans(context.Context, Kernel, *KMeans) error { return refuse(OpKMeans) }

// MatMul returns ErrUnsupported.
func (Unsupported) MatMul(Kernel, *MatMul) error { return refuse(OpMatMul) }

// ConstrainClusters returns ErrUnsupported.
func (Unsupported) ConstrainClusters(Kernel, *Clusters) error { return refuse(OpClusters) }

// Step returns ErrUnsupported.
func (Unsupported) Step(Kernel, *Step) error { return refuse(OpStep) }

// Activations returns ErrUnsupported.
func (Unsupported) Activations(Kernel, *Activations) error { return refuse(OpActivations) }

// Ternary returns ErrUnsupported.
func (Unsupported) Ternary(Kernel, *Ternary) error { return refuse(OpTernary) }

// Recode returns ErrUnsupported.
func (Unsupported) Recode(Kernel, *Recode) error { return refuse(OpRecode) }

// RMSNorm returns ErrUnsupported.
func (Unsupported) RMSNorm(Kernel, *RMSNorm) error { return refuse(OpRMSNorm) }

// Softmax returns ErrUnsupported.
func (Unsupported) Softmax(Kernel, *Softmax) error { return refuse(OpSoftmax) }

// Activate returns ErrUnsupported.
func (Unsupported) Activate(Kernel, *Activate) error { return refuse(OpActivate) }

// Update returns ErrUnsupported.
func (Unsupported) Update(Kernel, *Update) error { return refuse(OpUpdate) }
