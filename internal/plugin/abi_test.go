// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// compiler returns a C compiler, or skips the test and says so.
func compiler(t testing.TB) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("no C compiler, and this is CI")
	}
	t.Skip("no C compiler: the ABI cannot be compared with the header")
	return ""
}

// build compiles C sources to a file in a private folder and returns its path.
func build(t testing.TB, source string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	c, out := filepath.Join(dir, "source.c"), filepath.Join(dir, "out")
	if err := os.WriteFile(c, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append(args, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", "../../native/include", c, "-o", out)
	if msg, err := exec.Command(compiler(t), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return out
}

// TestMirrorMatchesHeader compares the size of each struct and the offset of each field with what the C compiler says.
func TestMirrorMatchesHeader(t *testing.T) {
	var c call
	var q quantizeArgs
	var n constrainArgs
	var r reduceArgs
	var m kmeansArgs
	var cl clustersArgs
	var st stepArgs
	var mm matmulArgs
	var ac activationsArgs
	var te ternaryArgs
	var re recodeArgs
	var no normArgs
	var so softmaxArgs
	var av activateArgs
	var up updateArgs
	var k kernelEntry
	var tb table
	var me memoryArgs
	var in deviceInfo
	var dv deviceTable
	var la libraryArgs
	fields := []struct {
		cstruct, cfield string
		offset          uintptr
	}{
		{"setun_call", "", unsafe.Sizeof(c)},
		{"setun_call", "size", unsafe.Offsetof(c.size)},
		{"setun_call", "message_size", unsafe.Offsetof(c.messageSize)},
		{"setun_call", "message", unsafe.Offsetof(c.message)},
		{"setun_call", "cancel", unsafe.Offsetof(c.cancel)},
		{"setun_call", "bad_index", unsafe.Offsetof(c.badIndex)},
		{"setun_quantize", "", unsafe.Sizeof(q)},
		{"setun_quantize", "levels", unsafe.Offsetof(q.levels)},
		{"setun_quantize", "rule", unsafe.Offsetof(q.rule)},
		{"setun_quantize", "format", unsafe.Offsetof(q.format)},
		{"setun_quantize", "x", unsafe.Offsetof(q.x)},
		{"setun_quantize", "rows", unsafe.Offsetof(q.rows)},
		{"setun_quantize", "cols", unsafe.Offsetof(q.cols)},
		{"setun_quantize", "group", unsafe.Offsetof(q.group)},
		{"setun_quantize", "seed", unsafe.Offsetof(q.seed)},
		{"setun_quantize", "out", unsafe.Offsetof(q.out)},
		{"setun_quantize", "scales", unsafe.Offsetof(q.scales)},
		{"setun_constrain", "", unsafe.Sizeof(n)},
		{"setun_constrain", "x", unsafe.Offsetof(n.x)},
		{"setun_constrain", "dst", unsafe.Offsetof(n.dst)},
		{"setun_constrain", "n", unsafe.Offsetof(n.n)},
		{"setun_constrain", "radius", unsafe.Offsetof(n.radius)},
		{"setun_constrain", "norm", unsafe.Offsetof(n.norm)},
		{"setun_reduce", "", unsafe.Sizeof(r)},
		{"setun_reduce", "x", unsafe.Offsetof(r.x)},
		{"setun_reduce", "y", unsafe.Offsetof(r.y)},
		{"setun_reduce", "n", unsafe.Offsetof(r.n)},
		{"setun_reduce", "result", unsafe.Offsetof(r.result)},
		{"setun_kmeans", "", unsafe.Sizeof(m)},
		{"setun_kmeans", "step", unsafe.Offsetof(m.step)},
		{"setun_kmeans", "flags", unsafe.Offsetof(m.flags)},
		{"setun_kmeans", "x", unsafe.Offsetof(m.x)},
		{"setun_kmeans", "n", unsafe.Offsetof(m.n)},
		{"setun_kmeans", "d", unsafe.Offsetof(m.d)},
		{"setun_kmeans", "k", unsafe.Offsetof(m.k)},
		{"setun_kmeans", "mean", unsafe.Offsetof(m.mean)},
		{"setun_kmeans", "centroids", unsafe.Offsetof(m.centroids)},
		{"setun_kmeans", "bias", unsafe.Offsetof(m.bias)},
		{"setun_kmeans", "weights", unsafe.Offsetof(m.weights)},
		{"setun_kmeans", "scale", unsafe.Offsetof(m.scale)},
		{"setun_kmeans", "weight_scale", unsafe.Offsetof(m.weightScale)},
		{"setun_kmeans", "low", unsafe.Offsetof(m.low)},
		{"setun_kmeans", "high", unsafe.Offsetof(m.high)},
		{"setun_kmeans", "labels", unsafe.Offsetof(m.labels)},
		{"setun_kmeans", "distance", unsafe.Offsetof(m.distance)},
		{"setun_kmeans", "sums", unsafe.Offsetof(m.sums)},
		{"setun_kmeans", "counts", unsafe.Offsetof(m.counts)},
		{"setun_kmeans", "weight_sums", unsafe.Offsetof(m.weightSum)},
		{"setun_kmeans", "changed", unsafe.Offsetof(m.changed)},
		{"setun_kmeans", "workspace", unsafe.Offsetof(m.workspace)},
		{"setun_kmeans", "workspace_size", unsafe.Offsetof(m.workspaceSize)},
		{"setun_kmeans", "unit", unsafe.Offsetof(m.unit)},
		{"setun_kmeans", "exact", unsafe.Offsetof(m.exact)},
		{"setun_kmeans", "next", unsafe.Offsetof(m.next)},
		{"setun_kmeans", "iterations", unsafe.Offsetof(m.iterations)},
		{"setun_kmeans", "limit", unsafe.Offsetof(m.limit)},
		{"setun_kmeans", "stopped", unsafe.Offsetof(m.stopped)},
		{"setun_kmeans", "seed", unsafe.Offsetof(m.seed)},
		{"setun_kmeans", "problems", unsafe.Offsetof(m.problems)},
		{"setun_kmeans", "problem_count", unsafe.Offsetof(m.problemCount)},
		{"setun_kmeans", "problem_size", unsafe.Offsetof(m.problemSize)},
		{"setun_problem", "", unsafe.Sizeof(problem{})},
		{"setun_problem", "n", unsafe.Offsetof(problem{}.n)},
		{"setun_problem", "limit", unsafe.Offsetof(problem{}.limit)},
		{"setun_problem", "iterations", unsafe.Offsetof(problem{}.iterations)},
		{"setun_problem", "exact", unsafe.Offsetof(problem{}.exact)},
		{"setun_problem", "flags", unsafe.Offsetof(problem{}.flags)},
		{"setun_problem", "stopped", unsafe.Offsetof(problem{}.stopped)},
		{"setun_clusters", "", unsafe.Sizeof(cl)},
		{"setun_clusters", "x", unsafe.Offsetof(cl.x)},
		{"setun_clusters", "dst", unsafe.Offsetof(cl.dst)},
		{"setun_clusters", "n", unsafe.Offsetof(cl.n)},
		{"setun_clusters", "k", unsafe.Offsetof(cl.k)},
		{"setun_clusters", "offsets", unsafe.Offsetof(cl.offsets)},
		{"setun_clusters", "labels", unsafe.Offsetof(cl.labels)},
		{"setun_clusters", "rows", unsafe.Offsetof(cl.rows)},
		{"setun_clusters", "radii", unsafe.Offsetof(cl.radii)},
		{"setun_clusters", "norms", unsafe.Offsetof(cl.norms)},
		{"setun_clusters", "scratch", unsafe.Offsetof(cl.scratch)},
		{"setun_step", "", unsafe.Sizeof(st)},
		{"setun_step", "to", unsafe.Offsetof(st.to)},
		{"setun_step", "params", unsafe.Offsetof(st.params)},
		{"setun_step", "delta", unsafe.Offsetof(st.delta)},
		{"setun_step", "radius", unsafe.Offsetof(st.radius)},
		{"setun_step", "norm", unsafe.Offsetof(st.norm)},
		{"setun_step", "scratch", unsafe.Offsetof(st.scratch)},
		{"setun_activations", "", unsafe.Sizeof(ac)},
		{"setun_activations", "x", unsafe.Offsetof(ac.x)},
		{"setun_activations", "rows", unsafe.Offsetof(ac.rows)},
		{"setun_activations", "cols", unsafe.Offsetof(ac.cols)},
		{"setun_activations", "out", unsafe.Offsetof(ac.out)},
		{"setun_activations", "scales", unsafe.Offsetof(ac.scales)},
		{"setun_recode", "", unsafe.Sizeof(re)},
		{"setun_recode", "from", unsafe.Offsetof(re.from)},
		{"setun_recode", "to", unsafe.Offsetof(re.to)},
		{"setun_recode", "codes", unsafe.Offsetof(re.codes)},
		{"setun_recode", "signs", unsafe.Offsetof(re.signs)},
		{"setun_recode", "index", unsafe.Offsetof(re.index)},
		{"setun_recode", "rows", unsafe.Offsetof(re.rows)},
		{"setun_recode", "cols", unsafe.Offsetof(re.cols)},
		{"setun_recode", "out", unsafe.Offsetof(re.out)},
		{"setun_rmsnorm", "", unsafe.Sizeof(no)},
		{"setun_rmsnorm", "flags", unsafe.Offsetof(no.flags)},
		{"setun_rmsnorm", "rows", unsafe.Offsetof(no.rows)},
		{"setun_rmsnorm", "cols", unsafe.Offsetof(no.cols)},
		{"setun_rmsnorm", "x", unsafe.Offsetof(no.x)},
		{"setun_rmsnorm", "delta", unsafe.Offsetof(no.delta)},
		{"setun_rmsnorm", "gain", unsafe.Offsetof(no.gain)},
		{"setun_rmsnorm", "dy", unsafe.Offsetof(no.dy)},
		{"setun_rmsnorm", "out", unsafe.Offsetof(no.out)},
		{"setun_rmsnorm", "sum", unsafe.Offsetof(no.sum)},
		{"setun_rmsnorm", "scale", unsafe.Offsetof(no.scale)},
		{"setun_rmsnorm", "dgain", unsafe.Offsetof(no.dgain)},
		{"setun_rmsnorm", "parts", unsafe.Offsetof(no.parts)},
		{"setun_rmsnorm", "epsilon", unsafe.Offsetof(no.epsilon)},
		{"setun_softmax", "", unsafe.Sizeof(so)},
		{"setun_softmax", "flags", unsafe.Offsetof(so.flags)},
		{"setun_softmax", "rows", unsafe.Offsetof(so.rows)},
		{"setun_softmax", "cols", unsafe.Offsetof(so.cols)},
		{"setun_softmax", "period", unsafe.Offsetof(so.period)},
		{"setun_softmax", "p", unsafe.Offsetof(so.p)},
		{"setun_softmax", "x", unsafe.Offsetof(so.x)},
		{"setun_softmax", "stats", unsafe.Offsetof(so.stats)},
		{"setun_softmax", "factor", unsafe.Offsetof(so.factor)},
		{"setun_softmax", "scale", unsafe.Offsetof(so.scale)},
		{"setun_activate", "", unsafe.Sizeof(av)},
		{"setun_activate", "kind", unsafe.Offsetof(av.kind)},
		{"setun_activate", "flags", unsafe.Offsetof(av.flags)},
		{"setun_activate", "rows", unsafe.Offsetof(av.rows)},
		{"setun_activate", "cols", unsafe.Offsetof(av.cols)},
		{"setun_activate", "x", unsafe.Offsetof(av.x)},
		{"setun_activate", "dy", unsafe.Offsetof(av.dy)},
		{"setun_activate", "out", unsafe.Offsetof(av.out)},
		{"setun_update", "", unsafe.Sizeof(up)},
		{"setun_update", "method", unsafe.Offsetof(up.method)},
		{"setun_update", "n", unsafe.Offsetof(up.n)},
		{"setun_update", "value", unsafe.Offsetof(up.value)},
		{"setun_update", "grad", unsafe.Offsetof(up.grad)},
		{"setun_update", "m", unsafe.Offsetof(up.m)},
		{"setun_update", "v", unsafe.Offsetof(up.v)},
		{"setun_update", "delta", unsafe.Offsetof(up.delta)},
		{"setun_update", "rate", unsafe.Offsetof(up.rate)},
		{"setun_update", "decay", unsafe.Offsetof(up.decay)},
		{"setun_update", "beta1", unsafe.Offsetof(up.beta1)},
		{"setun_update", "beta2", unsafe.Offsetof(up.beta2)},
		{"setun_update", "epsilon", unsafe.Offsetof(up.epsilon)},
		{"setun_update", "unbias1", unsafe.Offsetof(up.unbias1)},
		{"setun_update", "unbias2", unsafe.Offsetof(up.unbias2)},
		{"setun_ternary", "", unsafe.Sizeof(te)},
		{"setun_ternary", "levels", unsafe.Offsetof(te.levels)},
		{"setun_ternary", "format", unsafe.Offsetof(te.format)},
		{"setun_ternary", "codes", unsafe.Offsetof(te.codes)},
		{"setun_ternary", "signs", unsafe.Offsetof(te.signs)},
		{"setun_ternary", "index", unsafe.Offsetof(te.index)},
		{"setun_ternary", "scales", unsafe.Offsetof(te.scales)},
		{"setun_ternary", "rows", unsafe.Offsetof(te.rows)},
		{"setun_ternary", "cols", unsafe.Offsetof(te.cols)},
		{"setun_ternary", "group", unsafe.Offsetof(te.group)},
		{"setun_ternary", "x", unsafe.Offsetof(te.x)},
		{"setun_ternary", "x_scales", unsafe.Offsetof(te.xScales)},
		{"setun_ternary", "batch", unsafe.Offsetof(te.batch)},
		{"setun_ternary", "out", unsafe.Offsetof(te.out)},
		{"setun_ternary", "workspace", unsafe.Offsetof(te.workspace)},
		{"setun_ternary", "workspace_size", unsafe.Offsetof(te.workspaceSize)},
		{"setun_matmul", "", unsafe.Sizeof(mm)},
		{"setun_matmul", "flags", unsafe.Offsetof(mm.flags)},
		{"setun_matmul", "m", unsafe.Offsetof(mm.m)},
		{"setun_matmul", "n", unsafe.Offsetof(mm.n)},
		{"setun_matmul", "k", unsafe.Offsetof(mm.k)},
		{"setun_matmul", "a", unsafe.Offsetof(mm.a)},
		{"setun_matmul", "b", unsafe.Offsetof(mm.b)},
		{"setun_matmul", "c", unsafe.Offsetof(mm.c)},
		{"setun_matmul", "lda", unsafe.Offsetof(mm.lda)},
		{"setun_matmul", "ldb", unsafe.Offsetof(mm.ldb)},
		{"setun_matmul", "ldc", unsafe.Offsetof(mm.ldc)},
		{"setun_matmul", "batch", unsafe.Offsetof(mm.batch)},
		{"setun_matmul", "stride_a", unsafe.Offsetof(mm.strideA)},
		{"setun_matmul", "stride_b", unsafe.Offsetof(mm.strideB)},
		{"setun_matmul", "stride_c", unsafe.Offsetof(mm.strideC)},
		{"setun_matmul", "workspace", unsafe.Offsetof(mm.workspace)},
		{"setun_matmul", "workspace_size", unsafe.Offsetof(mm.workspaceSize)},
		{"setun_kernel", "", unsafe.Sizeof(k)},
		{"setun_kernel", "name", unsafe.Offsetof(k.name)},
		{"setun_kernel", "op", unsafe.Offsetof(k.op)},
		{"setun_kernel", "threads", unsafe.Offsetof(k.threads)},
		{"setun_kernel", "run", unsafe.Offsetof(k.run)},
		{"setun_kernel", "flags", unsafe.Offsetof(k.flags)},
		{"setun_table", "", unsafe.Sizeof(tb)},
		{"setun_table", "magic", unsafe.Offsetof(tb.magic)},
		{"setun_table", "size", unsafe.Offsetof(tb.size)},
		{"setun_table", "abi", unsafe.Offsetof(tb.abi)},
		{"setun_table", "kernel_size", unsafe.Offsetof(tb.kernelSize)},
		{"setun_table", "name", unsafe.Offsetof(tb.name)},
		{"setun_table", "version", unsafe.Offsetof(tb.version)},
		{"setun_table", "build", unsafe.Offsetof(tb.build)},
		{"setun_table", "kernels", unsafe.Offsetof(tb.kernels)},
		{"setun_table", "kernel_count", unsafe.Offsetof(tb.kernelCount)},
		{"setun_table", "open", unsafe.Offsetof(tb.open)},
		{"setun_table", "close", unsafe.Offsetof(tb.close)},
		{"setun_table", "device", unsafe.Offsetof(tb.device)},
		{"setun_memory", "", unsafe.Sizeof(me)},
		{"setun_memory", "device", unsafe.Offsetof(me.device)},
		{"setun_memory", "from", unsafe.Offsetof(me.from)},
		{"setun_memory", "to", unsafe.Offsetof(me.to)},
		{"setun_memory", "bytes", unsafe.Offsetof(me.bytes)},
		{"setun_device_info", "", unsafe.Sizeof(in)},
		{"setun_device_info", "name", unsafe.Offsetof(in.name)},
		{"setun_device_info", "driver", unsafe.Offsetof(in.driver)},
		{"setun_device_info", "total", unsafe.Offsetof(in.total)},
		{"setun_device_info", "free", unsafe.Offsetof(in.free)},
		{"setun_device_info", "ordinal", unsafe.Offsetof(in.ordinal)},
		{"setun_device_info", "units", unsafe.Offsetof(in.units)},
		{"setun_device_info", "major", unsafe.Offsetof(in.major)},
		{"setun_device_info", "minor", unsafe.Offsetof(in.minor)},
		{"setun_device_info", "launches", unsafe.Offsetof(in.launches)},
		{"setun_device_info", "lost", unsafe.Offsetof(in.lost)},
		{"setun_device_info", "taken", unsafe.Offsetof(in.taken)},
		{"setun_device", "", unsafe.Sizeof(dv)},
		{"setun_device", "size", unsafe.Offsetof(dv.size)},
		{"setun_device", "count", unsafe.Offsetof(dv.count)},
		{"setun_device", "open", unsafe.Offsetof(dv.open)},
		{"setun_device", "info", unsafe.Offsetof(dv.info)},
		{"setun_device", "alloc", unsafe.Offsetof(dv.alloc)},
		{"setun_device", "free", unsafe.Offsetof(dv.free)},
		{"setun_device", "upload", unsafe.Offsetof(dv.upload)},
		{"setun_device", "download", unsafe.Offsetof(dv.download)},
		{"setun_device", "copy", unsafe.Offsetof(dv.copy)},
		{"setun_device", "limit", unsafe.Offsetof(dv.limit)},
		{"setun_device", "pin", unsafe.Offsetof(dv.pin)},
		{"setun_device", "unpin", unsafe.Offsetof(dv.unpin)},
		{"setun_device", "attach", unsafe.Offsetof(dv.attach)},
		{"setun_library", "", unsafe.Sizeof(la)},
		{"setun_library", "kernel", unsafe.Offsetof(la.kernel)},
		{"setun_library", "path", unsafe.Offsetof(la.path)},
		{"setun_library", "version", unsafe.Offsetof(la.version)},
	}
	var src, want strings.Builder
	src.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include <setun/device.h>\nint main(void) {\n")
	for _, f := range fields {
		expr := fmt.Sprintf("offsetof(%s, %s)", f.cstruct, f.cfield)
		if f.cfield == "" {
			expr = fmt.Sprintf("sizeof(%s)", f.cstruct)
		}
		fmt.Fprintf(&src, "printf(\"%s.%s %%zu\\n\", %s);\n", f.cstruct, f.cfield, expr)
		fmt.Fprintf(&want, "%s.%s %d\n", f.cstruct, f.cfield, f.offset)
	}
	src.WriteString("printf(\"magic %u abi %u fast %d lost %d\\n\", SETUN_MAGIC, SETUN_ABI, SETUN_FAST, SETUN_ELOST); return 0; }\n")
	fmt.Fprintf(&want, "magic %d abi %d fast %d lost %d\n", magic, version, fastFlag, statusLost)
	got, err := exec.Command(build(t, src.String())).Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Errorf("C says\n%s\nGo says\n%s", got, want.String())
	}
}
