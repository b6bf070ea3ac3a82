// SPDX-License-Identifier: Apache-2.0

// Package data makes training batches from text: a corpus, a vocabulary, windows, and clusters of windows.
//
//	corpus, err := data.GoSource("", data.GoOptions{Limit: 8 << 20}) // or Opticks, or File
//	vocabulary := data.Bytes()                                      // or Characters(corpus.Text)
//	tokens, err := vocabulary.Encode(nil, corpus.Text)
//	train, validate := data.Split(tokens)
//	s, err := data.NewSampler(train, data.SamplerOptions{Context: 64, Batch: 12, Seed: 1})
//	inputs, targets = s.Batch(step, inputs, targets)                // Batch×Context tokens each
//
// Batches are pure functions of seed and step: after a resume the batch of any step is made again, and there is no state to save.
//
// [Cluster] groups the windows of a text by what is in them, and a [Sampler] can compose each batch of all groups, evenly or in proportion, or begin with the easy ones.
//
// The texts that every machine with a Go toolchain has need no download: the source of the toolchain itself, and Newton's Opticks (1704; in its test data).
package data
