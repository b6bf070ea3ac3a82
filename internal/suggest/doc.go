// SPDX-License-Identifier: Apache-2.0

// Package suggest chooses the number of clusters from one bisecting k-means run, and the bits a cluster's values deserve from their
// spread. The runtime's SuggestK and SuggestPrecision are its public face; docs/suggest.md has the formulas with their sources.
//
// The k-means kernel comes in as a function value. Everything else is float64 arithmetic in a fixed order, of + − × ÷, square root and canon.Log
// only, so a suggestion has the same bits wherever it is made.
package suggest
