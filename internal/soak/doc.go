// SPDX-License-Identifier: Apache-2.0

// Package soak keeps runtimes under load for as long as is asked, all ops and kernels mixed, with faults or without, and holds every result against pure Go. `make soak` and `make chaos` run its tests for minutes, `make test` for seconds.
package soak
