// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/quant"
)

// greedy has kernels that ask for a workspace of SIZE bytes, and would do their work in it.
const greedy = `
#include <setun/device.h>
#define KERNEL(name, type) static int32_t name(setun_ctx *c, void *p) { (void)c; type *a = p; if (!a->workspace) a->workspace_size = SIZE; return SETUN_OK; }
KERNEL(kmeans, setun_kmeans)
KERNEL(matmul, setun_matmul)
KERNEL(ternary, setun_ternary)
static const setun_kernel kernels[] = {{"kmeans", SETUN_OP_KMEANS, 1, kmeans, 0, 0}, {"matmul", SETUN_OP_MATMUL, 1, matmul, 0, 0}, {"ternary", SETUN_OP_TERNARY_MATMUL, 1, ternary, 0, 0}};
static const setun_table table = {SETUN_MAGIC, sizeof table, SETUN_ABI, sizeof(setun_kernel), "greedy", "1", "test", kernels, 3, 0, 0, 0, 0};
const setun_table *setun_backend(uint32_t abi);
const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &table : 0; }
`

// A size of a workspace that is none ends in an error: it neither ends the process for want of memory, nor counts as a call that was made.
func TestWorkspaceOfNoSize(t *testing.T) {
	for size, good := range map[string]bool{"-1": false, "-64": false, "-100": false, "INT64_MIN": false, "INT64_MAX": false, "(int64_t)1 << 62": false, "(int64_t)1 << 40": false, "0": true, "1000": true} {
		b, tried := Load("greedy", []Place{{Path: build(t, greedy, "-shared", "-fPIC", "-DSIZE="+size), File: true}})
		if b == nil {
			t.Fatalf("%+v", tried)
		}
		for _, k := range b.Kernels() {
			var err error
			switch k.Op {
			case backends.OpKMeans:
				err = b.KMeans(context.Background(), k, &backends.KMeans{X: []float32{1, 2}, N: 2, D: 1, K: 1, MaxIter: 1, Labels: make([]int32, 2), Centroids: make([]float32, 1), Counts: make([]int64, 1), Initial: []float32{0}})
				if good { // it does nothing
					err = nil
				}
			case backends.OpMatMul:
				err = b.MatMul(k, &backends.MatMul{A: []float32{1}, B: []float32{1}, C: []float32{0}, M: 1, N: 1, K: 1, LDA: 1, LDB: 1, LDC: 1, Batch: 1})
			default:
				w := &quant.Tensor{Levels: quant.Ternary, Format: quant.Int8, Rows: 1, Cols: 1, Codes: []int8{1}, Scales: []float32{1}}
				err = b.Ternary(k, &backends.Ternary{W: w, X: &quant.Activations{Codes: []int8{1}, Scales: []float32{1}, Rows: 1, Cols: 1}, Out: make([]float32, 1)})
			}
			if good && err != nil || !good && (!errors.Is(err, backends.ErrBackend) || !strings.Contains(err.Error(), "workspace")) {
				t.Errorf("%s, %s bytes: %v", k.Name, size, err)
			}
		}
		b.Close()
	}
}
