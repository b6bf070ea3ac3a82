/* SPDX-License-Identifier: Apache-2.0
 *
 * isa_ref.c: the reference. Plain loops, any machine, no libm, never optimised: what the other levels are held against. */
#include "bits.h"
#include "codes.h"
#include "isa.h"
#include "layers.h"

static double abs_chunk(const float *x, size_t n) {
    float lane[32] = {0};
    double t[32];
    for (size_t i = 0; i < n; i++) lane[i % 32] += setun_abs(x[i]);
    for (int l = 0; l < 32; l++) t[l] = (double)lane[l];
    return setun_fold(t);
}

static double dot_chunk(const float *x, const float *y, size_t n) {
    double t[32] = {0};
    for (size_t i = 0; i < n; i++) t[i % 32] += (double)x[i] * (double)y[i];
    return setun_fold(t);
}

static double square_chunk(const float *x, size_t n) { return dot_chunk(x, x, n); }

static uint32_t abs_max(const float *x, size_t n) {
    uint32_t m = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = setun_bits(x[i]) & SETUN_ABS_MASK;
        m = u > m ? u : m;
    }
    return m;
}

static void select_codes(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]) {
    for (size_t i = 0; i < n; i++) {
        float m = setun_abs(x[i]);
        v[i] = m > two ? m : m > one ? small * m : 0.0f;
        counts[0] += m > one;
        counts[1] += m > two;
    }
}

static void ternary(int8_t *out, const float *x, size_t n, float cut) {
    for (size_t i = 0; i < n; i++) out[i] = (int8_t)((x[i] > cut) - (x[i] < -cut));
}

static void quinary(int8_t *out, const float *x, size_t n, float one, float two) {
    for (size_t i = 0; i < n; i++) out[i] = (int8_t)((x[i] > one) + (x[i] > two) - (x[i] < -one) - (x[i] < -two));
}

static void pack2(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 256)
        for (int b = 0; b < 64; b++) {
            const int8_t *c = codes + b;
            out[b] = (uint8_t)((c[0] + 1) + 4 * (c[64] + 1) + 16 * (c[128] + 1) + 64 * (c[192] + 1));
        }
}

static void pack3(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 320)
        for (int b = 0; b < 64; b++) {
            const int8_t *c = codes + b;
            out[b] = setun_byte3((uint32_t)(81 * (c[0] + 1) + 27 * (c[64] + 1) + 9 * (c[128] + 1) + 3 * (c[192] + 1) + (c[256] + 1)));
        }
}

static void scale(float *out, const float *x, size_t n, double f) {
    for (size_t i = 0; i < n; i++) out[i] = setun_scaled(x[i], f);
}

static void stream(void *out, const void *in, size_t bytes) { memcpy(out, in, bytes); }
static void drain(void) {}

static uint32_t range(const float *x, size_t n, size_t d, float *low, float *high) {
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++, x += d)
        for (size_t j = 0; j < d; j++) {
            uint32_t u = setun_bits(x[j]) & SETUN_ABS_MASK;
            worst = u > worst ? u : worst;
            low[j] = x[j] < low[j] ? x[j] : low[j];
            high[j] = x[j] > high[j] ? x[j] : high[j];
        }
    return worst;
}

/* The product is exact in float64 and the sum is rounded twice, which differs from once only when the float64 sum lies halfway
 * between two float32 values or in float32's subnormal range: there it is rounded to odd first (Boldo and Melquiond, 2008). */
float setun_fma32(float a, float b, float c) {
    double p = (double)a * (double)b, s = p + (double)c;
    uint64_t u;
    memcpy(&u, &s, sizeof u);
    if ((u & 0x1fffffff) == 0x10000000 || (u & 0x7fffffffffffffffull) < 0x3820000000000000ull) {
        if (s - s != 0) return (float)s;
        double t = s - p, e = (p - (s - t)) + ((double)c - t); /* exactly p + c - s */
        if (e != 0 && !(u & 1)) {
            u += (e > 0) == (s > 0) ? 1 : -1ull;
            memcpy(&s, &u, sizeof s);
        }
    }
    return (float)s;
}

enum { ROWS = 8 };

static void centre(float *out, const float *x, size_t n, size_t d, const float *unit, const float *mean, const float *const *c) {
    for (size_t r = 0; r < n; r++)
        for (size_t p = 0; p < d; p++) {
            float v = x[r * d + p] * (unit ? unit[r] : 1) - mean[p];
            out[r * d + p] = c ? v - c[r][p] : v;
        }
}

static void panel(float *out, const float *x, size_t n, size_t d, const float *mean) {
    for (size_t r = 0; r < ROWS; r++)
        for (size_t p = 0; p < d; p++) out[p * ROWS + r] = r < n ? x[r * d + p] - (mean ? mean[p] : 0) : 0;
}

static void nearest(const float *panel, size_t d, const float *packed, const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines) {
    (void)ahead, (void)lines;
    for (size_t r = 0; r < ROWS; r++) {
        float best = -__builtin_inff();
        label[r] = 0;
        for (size_t j = 0; j < k; j++) {
            float s = bias[j];
            for (size_t p = 0; p < d; p++) s = setun_fma32(panel[p * ROWS + r], packed[j * d + p], s); /* groups of one */
            if (s > best) {
                best = s;
                label[r] = (int32_t)j;
            }
        }
    }
}

static void squares(const float *panel, size_t d, float *out) {
    for (size_t r = 0; r < ROWS; r++) {
        out[r] = 0;
        for (size_t p = 0; p < d; p++) out[r] = setun_fma32(panel[p * ROWS + r], panel[p * ROWS + r], out[r]);
    }
}

static void add_rows(int64_t *sums, const int32_t *label, const float *x, size_t n, size_t d, const double *scale, const float *weights) {
    for (size_t r = 0; r < n; r++) {
        int64_t *to = sums + (label ? (size_t)label[r] * d : 0);
        for (size_t p = 0; p < d; p++) {
            int64_t q = setun_rint((double)(weights ? weights[r] : 1) * (double)x[r * d + p] * scale[p]);
            to[p] = (int64_t)((uint64_t)to[p] + (uint64_t)q + (uint64_t)SETUN_RINT_BITS); /* wraps, and is taken off again */
        }
    }
}

enum { GEMM_ROWS = 4, GEMM_COLS = 4 };

static void gemm(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh) {
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < GEMM_COLS; j++) {
            float s = fresh ? 0 : c[r * ldc + j];
            for (size_t p = 0; p < k; p++) s = setun_fma32(a[p * GEMM_ROWS + r], b[p * step + j], s);
            c[r * ldc + j] = s;
        }
}

static void interleave(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k) {
    for (size_t p = 0; p < k; p++)
        for (size_t r = 0; r < width; r++) out[p * width + r] = r < rows ? x[r * ld + p] : 0;
}

static void bytes(int8_t *out, const float *x, size_t n, double f) {
    for (size_t i = 0; i < n; i++) out[i] = (int8_t)setun_rint((double)x[i] * f);
}

SETUN_ISA(setun_isa_ref, "scalar", .layers = &setun_layers_ref, SETUN_ISA_KMEANS(ROWS, 1), SETUN_ISA_MATMUL, SETUN_ISA_CODES(setun_codes_ref));
