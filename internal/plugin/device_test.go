// SPDX-License-Identifier: Apache-2.0

//go:build unix

package plugin

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/backends"
	"github.com/setun-compute/setun/backends/cpu"
)

// deviceSource is a library with two devices whose memory is the heap. Of its info total is what went up and free is what came down.
const deviceSource = `
#include <math.h>
#include <setun/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MOST 16
struct setun_ctx { int ordinal; int64_t up, down, taken, limit, launches; struct { char *at; int64_t bytes; } buffers[MOST]; };
static int inside(const setun_ctx *c, const void *p, int64_t bytes) {
    for (int i = 0; i < MOST; i++)
        if (c->buffers[i].at && (const char *)p >= c->buffers[i].at && (const char *)p + bytes <= c->buffers[i].at + c->buffers[i].bytes) return 1;
    return 0;
}
static int32_t count(char *message, uint32_t size) { snprintf(message, size, "%s", REASON); return COUNT; }
static int32_t open_device(setun_ctx **c, uint32_t ordinal, char *message, uint32_t size) {
    if (ordinal == 1) { snprintf(message, size, "in use"); return SETUN_ENOMEM; }
    *c = calloc(1, sizeof **c);
    (*c)->ordinal = (int)ordinal;
    return SETUN_OK;
}
static int32_t open_first(setun_ctx **c, char *message, uint32_t size) { return open_device(c, 0, message, size); }
static void close_device(setun_ctx *c) { free(c); }
static int32_t info(setun_ctx *c, setun_device_info *i) {
    if (i->call.size != sizeof *i) return SETUN_EINVAL;
    snprintf(i->name, sizeof i->name, "heap");
    snprintf(i->driver, sizeof i->driver, "1.2");
    i->total = c->up; i->free = c->down; i->ordinal = c->ordinal; i->units = 3; i->major = 9; i->minor = 1; i->launches = c->launches; i->taken = c->taken;
    return SETUN_OK;
}
static int32_t attach(setun_ctx *c, setun_library *l) {
    if (l->call.size != sizeof *l || strcmp(l->kernel, "norm2")) { snprintf(l->call.message, l->call.message_size, "%s needs no library", l->kernel); return SETUN_EINVAL; }
    snprintf(l->version, sizeof l->version, "%d %s", c->ordinal, l->path);
    return SETUN_OK;
}
static int32_t alloc(setun_ctx *c, setun_memory *m) {
    if (c->limit && c->taken + m->bytes > c->limit) { snprintf(m->call.message, m->call.message_size, "no room"); return SETUN_ENOMEM; }
    for (int i = 0; i < MOST; i++)
        if (!c->buffers[i].at) {
            m->device = c->buffers[i].at = malloc((size_t)m->bytes);
            c->buffers[i].bytes = m->bytes;
            c->taken += m->bytes;
            return SETUN_OK;
        }
    return SETUN_ENOMEM;
}
static int32_t release(setun_ctx *c, setun_memory *m) {
    for (int i = 0; i < MOST; i++)
        if (m->device && c->buffers[i].at == m->device) {
            c->taken -= c->buffers[i].bytes;
            free(c->buffers[i].at);
            c->buffers[i].at = 0;
            return SETUN_OK;
        }
    return SETUN_EINVAL;
}
static int32_t upload(setun_ctx *c, setun_memory *m) {
    if (m->call.cancel && *m->call.cancel) return SETUN_ECANCELLED;
    if (!inside(c, m->device, m->bytes)) return SETUN_EINVAL;
    c->up += m->bytes;
    memcpy(m->device, m->from, (size_t)m->bytes);
    return SETUN_OK;
}
static int32_t download(setun_ctx *c, setun_memory *m) {
    if (!inside(c, m->device, m->bytes)) return SETUN_EINVAL;
    c->down += m->bytes;
    memcpy(m->to, m->device, (size_t)m->bytes);
    return SETUN_OK;
}
static int32_t copy(setun_ctx *c, setun_memory *m) {
    if (!inside(c, m->device, m->bytes) || !inside(c, m->from, m->bytes)) return SETUN_EINVAL;
    memmove(m->device, m->from, (size_t)m->bytes);
    return SETUN_OK;
}
static int32_t limit(setun_ctx *c, setun_memory *m) { c->limit = m->bytes; return SETUN_OK; }

static float chain(const setun_kmeans *a, const float *x, const float *c, int square, float sum) {
    for (int64_t j = 0; j < a->d; j++) {
        float v = x[j] - a->mean[j];
        sum = square ? fmaf(v - c[j], v - c[j], sum) : fmaf(v, c[j], sum);
    }
    return sum;
}
static int32_t kmeans(setun_ctx *c, void *p) {
    setun_kmeans *a = p;
    if (!a->workspace) { a->workspace_size = 0; return SETUN_OK; }
    if (a->n > 100 && !inside(c, a->x, 4 * a->n * a->d)) { // with a limit of some size they come in pieces
        if (c->limit > 0 && c->limit < 1000) return SETUN_ENOMEM;
        if (!c->limit) { snprintf(a->call.message, a->call.message_size, "the points are on the host"); return SETUN_EINVAL; }
        if (inside(c, a->labels, 4) || inside(c, a->distance, 4)) { snprintf(a->call.message, a->call.message_size, "the points alone are on the host"); return SETUN_EINVAL; }
    }
    if (c->launches++ == LOSE) { snprintf(a->call.message, a->call.message_size, "gone"); return SETUN_ELOST; }
    double top = 0;
    a->changed = 0;
    a->exact = a->n * a->k;
    for (int64_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->d;
        for (int64_t j = 0; j < a->d && a->step == SETUN_KMEANS_RANGE; j++) {
            if (x[j] < a->low[j]) a->low[j] = x[j];
            if (x[j] > a->high[j]) a->high[j] = x[j];
        }
        for (int64_t j = 0; j < a->d && a->step == SETUN_KMEANS_MEAN; j++) a->sums[j] += (int64_t)rint((double)x[j] * a->scale[j]);
        if (a->step == SETUN_KMEANS_DISTANCE) {
            float v = chain(a, x, a->centroids + (a->labels ? a->labels[i] * a->d : 0), 1, 0);
            if (!(a->flags & SETUN_KMEANS_KEEP_MIN) || v < a->distance[i]) a->distance[i] = v;
        }
        if (a->step == SETUN_KMEANS_POTENTIAL) top = fmax(top, (double)a->distance[i] * (a->weights ? (double)a->weights[i] : 1));
        if (a->step != SETUN_KMEANS_ASSIGN) continue;
        int32_t best = 0, old = a->labels[i];
        float most = 0;
        for (int32_t k = 0; k < a->k; k++) {
            float v = chain(a, x, a->centroids + k * a->d, 0, a->bias[k]);
            if (k == 0 || v > most) best = k, most = v;
        }
        a->labels[i] = best;
        a->changed += best != old;
        if (!a->sums || ((a->flags & SETUN_KMEANS_MOVED) && best == old)) continue;
        double w = a->weights ? (double)a->weights[i] : 1;
        for (int sign = 1; sign >= (a->flags & SETUN_KMEANS_MOVED ? -1 : 1); sign -= 2) {
            int32_t k = sign > 0 ? best : old;
            a->counts[k] += sign;
            for (int64_t j = 0; j < a->d; j++) a->sums[k * a->d + j] += sign * (int64_t)rint(w * (double)(x[j] - a->mean[j]) * a->scale[j]);
            if (a->weights) a->weight_sums[k] += sign * (int64_t)rint(w * a->weight_scale);
        }
    }
    if (a->step == SETUN_KMEANS_POTENTIAL) {
        int e;
        frexp(top, &e);
        a->weight_scale = ldexp(a->weight_scale, -e);
        for (int64_t i = 0; i < a->n; i++) {
            if (i % 4096 == 0) a->sums[i / 4096] = 0;
            a->sums[i / 4096] += (int64_t)rint((double)a->distance[i] * (a->weights ? (double)a->weights[i] : 1) * a->weight_scale);
        }
    }
    return SETUN_OK;
}
static int32_t dot(setun_ctx *c, void *p) {
    setun_reduce *a = p;
    if (!inside(c, a->x, 4 * a->n) || inside(c, a->y, 4 * a->n)) return SETUN_EINVAL; // the test has x on the device and y on the host
    a->result = 0;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->x[i] != a->x[i] || a->y[i] != a->y[i]) { a->call.bad_index = a->x[i] != a->x[i] ? i : a->n + i; return SETUN_ENONFINITE; }
        a->result += (double)a->x[i] * (double)a->y[i];
    }
    return SETUN_OK;
}
// The ops between products refuse with a message that has a character for each array: whether it is on the device, on the host, or not there.
static int32_t tell(const setun_ctx *c, const setun_call *call, const void *const *p) {
    char *to = call->message;
    for (; *p != c; p++) *to++ = !*p ? '-' : inside(c, *p, 4) ? 'd' : 'h';
    *to = 0;
    return SETUN_EINVAL;
}
static int32_t norm(setun_ctx *c, void *p) {
    setun_rmsnorm *a = p;
    return tell(c, &a->call, (const void *[]){a->x, a->delta, a->sum, a->gain, a->scale, a->dy, a->out, a->dgain, c});
}
static int32_t softmax(setun_ctx *c, void *p) {
    setun_softmax *a = p;
    return tell(c, &a->call, (const void *[]){a->x, a->p, c});
}
static int32_t activate(setun_ctx *c, void *p) {
    setun_activate *a = p;
    return tell(c, &a->call, (const void *[]){a->x, a->dy, a->out, c});
}
static int32_t update(setun_ctx *c, void *p) {
    setun_update *a = p;
    return tell(c, &a->call, (const void *[]){a->value, a->grad, a->m, a->v, a->delta, c});
}
static const setun_kernel kernels[] = {{"heap", SETUN_OP_KMEANS, 1, kmeans, 0, 0}, {"rough", SETUN_OP_MATMUL, 1, kmeans, SETUN_FAST, 0}, {"heap", SETUN_OP_DOT, 1, dot, 0, 0},
    {"heap", SETUN_OP_RMSNORM, 1, norm, 0, 0}, {"heap", SETUN_OP_SOFTMAX, 1, softmax, 0, 0}, {"heap", SETUN_OP_ACTIVATE, 1, activate, 0, 0}, {"heap", SETUN_OP_UPDATE, 1, update, 0, 0}};
static const setun_device device = {sizeof(setun_device), 0, count, open_device, info, alloc, release, upload, download, copy, limit, 0, 0, attach};
static const setun_table table = {SETUN_MAGIC, sizeof(setun_table), SETUN_ABI, sizeof(setun_kernel), "heap", "1", "test", kernels, 7, 0, open_first, close_device, &device};
const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &table : 0; }
`

// heap builds and loads the library with so many devices, which is lost with the given launch.
func heap(t *testing.T, count, reason, lose string) *Library {
	t.Helper()
	path := build(t, deviceSource, "-shared", "-fPIC", "-O1", "-ffp-contract=off", "-D_DEFAULT_SOURCE", "-DCOUNT="+count, "-DREASON=\""+reason+"\"", "-DLOSE="+lose, "-Wl,--no-as-needed", "-lm")
	l, tried := LoadLibrary("heap", []Place{{Path: path, File: true}})
	if l == nil {
		t.Fatalf("%+v", tried)
	}
	return l
}

func open(t *testing.T, l *Library) (*Backend, backends.Kernel) {
	t.Helper()
	b, err := l.OpenDevice("heap", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b, b.Kernels()[0]
}

func infoOf(t *testing.T, b *Backend) backends.DeviceInfo {
	t.Helper()
	i, err := b.Device().Info()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func clusterProblem(n, d, k int) *backends.KMeans {
	r := rand.New(rand.NewPCG(3, 4))
	x := make([]float32, n*d)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return &backends.KMeans{X: x, N: n, D: d, K: k, Seed: 5, MaxIter: 8, Labels: make([]int32, n), Centroids: make([]float32, k*d), Counts: make([]int64, k)}
}

func TestDevices(t *testing.T) {
	l := heap(t, "2", "", "-1")
	if n, reason := l.Devices(); n != 2 || reason != "" {
		t.Errorf("%d devices: %q", n, reason)
	}
	b, k := open(t, l)
	if i := infoOf(t, b); i.Name != "heap" || i.Driver != "1.2" || i.Units != 3 || i.Major != 9 || i.Minor != 1 || i.Ordinal != 0 {
		t.Errorf("%+v", i)
	}
	if k.Memory != 1 || k.Fast || !b.Kernels()[1].Fast {
		t.Errorf("%+v", b.Kernels())
	}
	if _, err := l.OpenDevice("heap:1", 1, 2); !errors.Is(err, backends.ErrMemory) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the second: %v", err)
	}
	d := b.Device()
	if err := d.Upload(12345, []byte{1}); !errors.Is(err, backends.ErrBackend) {
		t.Errorf("an address that is none: %v", err)
	}
	b.Close()
	if _, err := d.Alloc(1); !errors.Is(err, backends.ErrBackend) || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
}

// A library of others goes to the context of the device that asks; what does not attach any says so.
func TestAttach(t *testing.T) {
	l := heap(t, "1", "", "-1")
	b, _ := open(t, l)
	if v, err := b.Attach("norm2", "/a/library.so"); err != nil || v != "0 /a/library.so" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := b.Attach("dot", "/a/library.so"); !errors.Is(err, backends.ErrLibrary) || !strings.Contains(err.Error(), "dot needs no library") {
		t.Errorf("%v", err)
	}
	l.device.attach = 0 // as of an older library
	if _, err := b.Attach("norm2", "/a/library.so"); !errors.Is(err, backends.ErrLibrary) {
		t.Errorf("%v", err)
	}
	l.device = nil
	if _, err := b.Attach("norm2", "/a/library.so"); !errors.Is(err, backends.ErrLibrary) {
		t.Errorf("%v", err)
	}
}

func TestNoDevice(t *testing.T) {
	for count, reason := range map[string]string{"0": "no card", "-5": "no driver", "-1": ""} {
		if n, got := heap(t, count, reason, "-1").Devices(); n != 0 || reason != "" && got != reason || got == "" {
			t.Errorf("%s: %d devices, %q", count, n, got)
		}
	}
}

// An operand may be on the device while another is on the host; an error names the value wherever it is.
func TestOperandsOnADevice(t *testing.T) {
	b, _ := open(t, heap(t, "1", "", "-1"))
	k := b.Kernels()[2]
	x, y := []float32{1, 2, 3, 4}, []float32{5, 6, 7, 8}
	at, err := b.Device().Alloc(16)
	if err == nil {
		err = b.Device().Upload(at, backends.Bytes(x))
	}
	a := backends.Reduce{X: make([]float32, 4), XAt: at, Y: y}
	if err == nil {
		err = b.Reduce(k, &a)
	}
	if err != nil || a.Result != 70 {
		t.Fatalf("%v, %v", a.Result, err)
	}
	x[2] = float32(math.NaN())
	if err := b.Device().Upload(at, backends.Bytes(x)); err != nil {
		t.Fatal(err)
	}
	if err := b.Reduce(k, &a); !errors.Is(err, backends.ErrNonFinite) || !strings.Contains(err.Error(), "x[2] = NaN") {
		t.Errorf("%v", err)
	}
	x[2], y[1] = 3, float32(math.NaN())
	if err := b.Device().Upload(at, backends.Bytes(x)); err != nil {
		t.Fatal(err)
	}
	if err := b.Reduce(k, &a); !errors.Is(err, backends.ErrNonFinite) || !strings.Contains(err.Error(), "y[1] = NaN") {
		t.Errorf("%v", err)
	}
	if n := testing.AllocsPerRun(100, func() { b.Device().Upload(at, backends.Bytes(y)) }); n > 1 {
		t.Errorf("%v allocations an upload", n)
	}
}

// A run on a device gives the bits of pure Go, moves the points once, and leaves nothing behind.
func TestKMeansStaysOnTheDevice(t *testing.T) {
	l := heap(t, "1", "", "-1")
	for variant := range 8 {
		b, k := open(t, l)
		var want string
		for _, on := range []backends.Backend{cpu.Backend{}, b} {
			a := clusterProblem(9001, 4, 7)
			if variant&1 != 0 {
				a.Weights = make([]float32, a.N)
				for i := range a.Weights {
					a.Weights[i] = float32(i%5) / 2
				}
			}
			if variant&2 != 0 {
				a.Initial = slices.Clone(a.X[:a.K*a.D])
				a.Initial[1] = 1e5
			}
			if variant&4 != 0 {
				a.Batch, a.Tol = 50, 1e-4
			}
			if err := on.KMeans(context.Background(), k, a); err != nil {
				t.Fatalf("variant %d: %v", variant, err)
			}
			got := clusterText(a)
			if want == "" {
				want = got
			} else if got != want {
				t.Errorf("variant %d differs from pure Go", variant)
			}
		}
		i := infoOf(t, b)
		if most := int64(4 * 9001 * (4 + 4)); i.Total > most { // X; weights, labels, and distances twice
			t.Errorf("variant %d: %d bytes went up, %d would do", variant, i.Total, most)
		}
		if i.Taken != 0 {
			t.Errorf("variant %d: %d bytes stayed on the device", variant, i.Taken)
		}
	}
}

func clusterText(a *backends.KMeans) string {
	var b strings.Builder
	for _, part := range [][]byte{backends.Bytes(a.Labels), backends.Bytes(a.Centroids), backends.Bytes(a.Counts), backends.Bytes([]float64{a.Inertia, float64(a.Iterations)})} {
		b.Write(part)
	}
	return b.String()
}

// A run for whose points the device has no memory, or for what goes with them, has all of it on the host from the beginning; with no memory for the centroids either it does nothing.
func TestKMeansStreams(t *testing.T) {
	b, k := open(t, heap(t, "1", "", "-1"))
	for _, limit := range []int64{4000, 4 * 9000 * 3, 4 * 9000 * 4} {
		if err := b.Device().Limit(limit); err != nil {
			t.Fatal(err)
		}
		before := infoOf(t, b)
		want, got := clusterProblem(9000, 3, 4), clusterProblem(9000, 3, 4)
		if err := (cpu.Backend{}).KMeans(context.Background(), backends.Kernel{}, want); err != nil {
			t.Fatal(err)
		}
		if err := b.KMeans(context.Background(), k, got); err != nil || clusterText(got) != clusterText(want) || !got.Streamed {
			t.Errorf("limit %d: %v, or not the bits of pure Go", limit, err)
		}
		i := infoOf(t, b)
		if up := i.Total - before.Total; i.Taken != 0 || up != 0 {
			t.Errorf("limit %d: %d bytes went up by themselves, %d bytes stayed on the device", limit, up, i.Taken)
		}
	}
	if err := b.Device().Limit(3000); err != nil {
		t.Fatal(err)
	}
	heard := 0
	a := clusterProblem(9000, 3, 4)
	a.Progress = func(int, int64) { heard++ }
	if err := b.KMeans(context.Background(), k, a); !errors.Is(err, backends.ErrMemory) || heard > 0 || infoOf(t, b).Taken != 0 {
		t.Errorf("no memory for anything: %v after %d iterations", err, heard)
	}
}

// Whatever goes wrong, the error says what it is and the memory is given back.
func TestKMeansFailsOnTheDevice(t *testing.T) {
	check := func(name string, b *Backend, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if i := infoOf(t, b); i.Taken != 0 {
			t.Errorf("%s: %d bytes stayed on the device", name, i.Taken)
		}
	}
	b, k := open(t, heap(t, "1", "", "4"))
	check("lost", b, b.KMeans(context.Background(), k, clusterProblem(9000, 3, 4)), backends.ErrLost)

	b, k = open(t, heap(t, "1", "", "-1"))
	if err := b.Device().Limit(900); err != nil {
		t.Fatal(err)
	}
	check("memory", b, b.KMeans(context.Background(), k, clusterProblem(9000, 3, 4)), backends.ErrMemory)
	if err := b.Device().Limit(0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := clusterProblem(9000, 3, 4)
	a.Progress = func(int, int64) { cancel() }
	check("cancelled", b, b.KMeans(ctx, k, a), context.Canceled)
	a = clusterProblem(9000, 3, 4)
	a.X[100] = float32(math.MaxFloat32)
	check("range", b, b.KMeans(context.Background(), k, a), backends.ErrRange)
}
