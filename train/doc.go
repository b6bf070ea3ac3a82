// SPDX-License-Identifier: Apache-2.0

// Package train trains small language models whose linear layers are ternary, through the runtime's kernels.
//
// A [Config] says everything about a run; [Run] does it: data, model, schedule, evaluation, metrics as JSON lines, a report and checkpoints from which a run goes on to the same bits.
// The parts are packages of their own and can be used alone: train/model (the transformer and its gradients), train/optim (the constrained optimiser), train/auxnn (the network that adjusts
// learning rate and trust radius) and train/data (corpora, vocabularies, batches).
package train
