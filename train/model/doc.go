// SPDX-License-Identifier: Apache-2.0

// Package model is a small GPT over bytes or characters, with ternary linear layers and forward and backward passes written by hand.
//
// A token's vector is its embedding plus that of its position. Each layer adds to it causal attention of its RMSNorm, then a feed-forward of relu² or SwiGLU of its RMSNorm; a last RMSNorm and the head, which may be the
// transposed embedding, give logits. There are no biases. Embeddings, norms and head are float32. The weights of the linear layers have latent float32 values too; what multiplies is, by Model.SetMix or layer by layer by
// Model.SetMixes, those, their ternary tensor (BitNet b1.58, arXiv 2402.17764), or something between.
//
// All products of matrices are ops of the runtime; the rest are loops over rows in Go. Every number has one order of operations (docs/numerics.md), so losses, logits and gradients are the same bits on every backend, machine
// and number of threads.
//
// A step of training is ZeroGrad, Backward once or more, a change to Param.Value by an optimizer, and Refresh. A Model serves one call at a time.
// Model.Pack writes what is left of it when training is over, and Unpack reads that as a Packed, which computes the same.
package model
