// SPDX-License-Identifier: Apache-2.0

// Package train trains small language models whose linear layers are ternary, through the runtime's kernels.
//
// A [Config] says everything about a run; [Run] does it: data, model, schedule, evaluation, metrics as JSON lines, a report, checkpoints from which a run goes on to the same bits,
// and the finished model as a small file, by which [OpenModel] writes text.
// The parts are packages of their own and can be used alone: train/model (the transformer and its gradients), train/optim (the constrained optimiser), train/auxnn (the network that adjusts
// learning rate and trust radius), train/data (corpora, vocabularies, batches) and train/parallel (several processes of MPI that train one model: Options.Peers).
package train
