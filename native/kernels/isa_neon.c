/* SPDX-License-Identifier: Apache-2.0
 *
 * NEON on arm64. 4 float32 or 2 float64 a vector; tails go to the reference.
 *
 * Sums: 32 lanes are eight float32 or sixteen float64 accumulators; there are 32 registers.
 * k-means: a tile of 8 points by 12 centroids keeps 24 accumulators in registers over the whole dimension. */
#include "bits.h"
#include "codes.h"
#include "isa.h"
#include "layers.h"

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

static double abs_chunk(const float *x, size_t n) {
    float32x4_t acc[8];
    for (int v = 0; v < 8; v++) acc[v] = vdupq_n_f32(0);
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int v = 0; v < 8; v++) acc[v] = vaddq_f32(acc[v], vabsq_f32(vld1q_f32(x + i + 4 * v)));
    float lane[32];
    double t[32];
    for (int v = 0; v < 8; v++) vst1q_f32(lane + 4 * v, acc[v]);
    for (int l = 0; i < n; i++, l++) lane[l] += setun_abs(x[i]);
    for (int l = 0; l < 32; l++) t[l] = (double)lane[l];
    return setun_fold(t);
}

static double dot_chunk(const float *x, const float *y, size_t n) {
    float64x2_t acc[16];
    for (int v = 0; v < 16; v++) acc[v] = vdupq_n_f64(0);
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int v = 0; v < 8; v++) {
            float32x4_t a = vld1q_f32(x + i + 4 * v), b = vld1q_f32(y + i + 4 * v);
            /* The products are exact, so the fused form is the same. */
            acc[2 * v] = vfmaq_f64(acc[2 * v], vcvt_f64_f32(vget_low_f32(a)), vcvt_f64_f32(vget_low_f32(b)));
            acc[2 * v + 1] = vfmaq_f64(acc[2 * v + 1], vcvt_high_f64_f32(a), vcvt_high_f64_f32(b));
        }
    double t[32];
    for (int v = 0; v < 16; v++) vst1q_f64(t + 2 * v, acc[v]);
    for (int l = 0; i < n; i++, l++) t[l] += (double)x[i] * (double)y[i];
    return setun_fold(t);
}

static double square_chunk(const float *x, size_t n) { return dot_chunk(x, x, n); }

INLINE uint32x4_t bits4(const float *x) { return vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x)), vdupq_n_u32(SETUN_ABS_MASK)); }

static uint32_t abs_max(const float *x, size_t n) {
    uint32x4_t a = vdupq_n_u32(0), b = a;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        a = vmaxq_u32(a, bits4(x + i));
        b = vmaxq_u32(b, bits4(x + i + 4));
    }
    uint32_t m = vmaxvq_u32(vmaxq_u32(a, b)), t = setun_isa_ref.abs_max(x + i, n - i);
    return m > t ? m : t;
}

static void select_codes(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]) {
    float32x4_t c1 = vdupq_n_f32(one), c2 = vdupq_n_f32(two), s = vdupq_n_f32(small);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t m = vabsq_f32(vld1q_f32(x + i));
        uint32x4_t k1 = vcgtq_f32(m, c1), k2 = vcgtq_f32(m, c2);
        uint32x4_t half = vandq_u32(k1, vreinterpretq_u32_f32(vmulq_f32(s, m)));
        vst1q_f32(v + i, vbslq_f32(k2, m, vreinterpretq_f32_u32(half)));
        counts[0] += vaddvq_u32(vshrq_n_u32(k1, 31));
        counts[1] += vaddvq_u32(vshrq_n_u32(k2, 31));
    }
    setun_isa_ref.select(v + i, x + i, n - i, one, two, small, counts);
}

/* Codes of 16 values: (x > cut) - (x < -cut). */
INLINE int8x16_t codes16(const float *x, float32x4_t cut, float32x4_t minus) {
    int16x4_t c[4];
    for (int v = 0; v < 4; v++) {
        float32x4_t u = vld1q_f32(x + 4 * v);
        c[v] = vmovn_s32(vsubq_s32(vreinterpretq_s32_u32(vcltq_f32(u, minus)), vreinterpretq_s32_u32(vcgtq_f32(u, cut))));
    }
    return vcombine_s8(vmovn_s16(vcombine_s16(c[0], c[1])), vmovn_s16(vcombine_s16(c[2], c[3])));
}

static void ternary(int8_t *out, const float *x, size_t n, float cut) {
    float32x4_t c = vdupq_n_f32(cut), m = vdupq_n_f32(-cut);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) vst1q_s8(out + i, codes16(x + i, c, m));
    setun_isa_ref.ternary(out + i, x + i, n - i, cut);
}

static void quinary(int8_t *out, const float *x, size_t n, float one, float two) {
    float32x4_t c1 = vdupq_n_f32(one), m1 = vdupq_n_f32(-one), c2 = vdupq_n_f32(two), m2 = vdupq_n_f32(-two);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) vst1q_s8(out + i, vaddq_s8(codes16(x + i, c1, m1), codes16(x + i, c2, m2)));
    setun_isa_ref.quinary(out + i, x + i, n - i, one, two);
}

INLINE uint8x16_t plus1(const int8_t *codes) { return vreinterpretq_u8_s8(vaddq_s8(vld1q_s8(codes), vdupq_n_s8(1))); }

static void pack2(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 256)
        for (int h = 0; h < 64; h += 16) {
            uint8x16_t v = plus1(codes + 192 + h);
            for (int p = 2; p >= 0; p--) v = vaddq_u8(vshlq_n_u8(v, 2), plus1(codes + 64 * p + h));
            vst1q_u8(out + h, v);
        }
}

/* floor((13 v + 242) / 243) for v <= 242: 4316 / 2^20 is 1/243 closely enough. */
INLINE uint8x8_t carry3(uint8x8_t v) {
    uint16x8_t y = vmlaq_n_u16(vdupq_n_u16(242), vmovl_u8(v), 13);
    uint32x4_t lo = vmull_n_u16(vget_low_u16(y), 4316), hi = vmull_n_u16(vget_high_u16(y), 4316);
    return vmovn_u16(vshrq_n_u16(vcombine_u16(vshrn_n_u32(lo, 16), vshrn_n_u32(hi, 16)), 4));
}

static void pack3(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 320)
        for (int h = 0; h < 64; h += 16) {
            uint8x16_t v = plus1(codes + h);
            for (int p = 1; p < 5; p++) v = vmlaq_u8(plus1(codes + 64 * p + h), v, vdupq_n_u8(3));
            uint8x16_t c = vcombine_u8(carry3(vget_low_u8(v)), carry3(vget_high_u8(v)));
            vst1q_u8(out + h, vaddq_u8(v, c));
        }
}

static void scale(float *out, const float *x, size_t n, double f) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        float32x2_t lo = vcvt_f32_f64(vmulq_n_f64(vcvt_f64_f32(vget_low_f32(v)), f));
        uint32x4_t r = vreinterpretq_u32_f32(vcombine_f32(lo, vcvt_f32_f64(vmulq_n_f64(vcvt_high_f64_f32(v), f))));
        uint32x4_t normal = vtstq_u32(r, vdupq_n_u32(SETUN_INF_BITS));
        vst1q_f32(out + i, vreinterpretq_f32_u32(vandq_u32(r, vorrq_u32(normal, vdupq_n_u32(~SETUN_ABS_MASK)))));
    }
    setun_isa_ref.scale(out + i, x + i, n - i, f);
}

static void stream(void *out, const void *in, size_t bytes) { memcpy(out, in, bytes); }
static void drain(void) {}

static uint32_t range(const float *x, size_t n, size_t d, float *low, float *high) {
    uint32x4_t worst = vdupq_n_u32(0);
    uint32_t tail = 0;
    for (size_t i = 0; i < n; i++, x += d) {
        size_t j = 0;
        for (; j + 4 <= d; j += 4) {
            float32x4_t v = vld1q_f32(x + j), l = vld1q_f32(low + j), h = vld1q_f32(high + j);
            worst = vmaxq_u32(worst, bits4(x + j));
            vst1q_f32(low + j, vbslq_f32(vcltq_f32(v, l), v, l));
            vst1q_f32(high + j, vbslq_f32(vcgtq_f32(v, h), v, h));
        }
        if (j < d) {
            uint32_t u = setun_isa_ref.range(x + j, 1, d - j, low + j, high + j);
            tail = u > tail ? u : tail;
        }
    }
    uint32_t u = vmaxvq_u32(worst);
    return u > tail ? u : tail;
}

/* ---- k-means ------------------------------------------------------------------------------------------------------ */

#define VEC float32x4_t
#define IVEC int32x4_t
#define LANES 4
#define GROUP 12
#define LOAD(p) vld1q_f32(p)
#define SPREAD(p) vld1q_dup_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define LOAD_INT(p) vld1q_s32(p)
#define STORE_INT(p, v) vst1q_s32(p, v)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define SPREAD_INT(n) vdupq_n_s32(n)
#define NEXT_INT(v) vaddq_s32(v, vdupq_n_s32(1))
#define BETTER(best, index, s, j)                                                                                                                              \
    do {                                                                                                                                                       \
        uint32x4_t gt = vcgtq_f32(s, best);                                                                                                                    \
        best = vbslq_f32(gt, s, best);                                                                                                                         \
        index = vbslq_s32(gt, j, index);                                                                                                                       \
    } while (0)
#define AHEAD(p) __builtin_prefetch(p, 0, 2)
#include "nearest.h"

static void centre(float *out, const float *x, size_t n, size_t d, const float *unit, const float *mean, const float *const *c) {
    for (size_t r = 0; r < n; r++, x += d, out += d) {
        float u = unit ? unit[r] : 1;
        size_t p = 0;
        for (; p + 4 <= d; p += 4) {
            float32x4_t v = vsubq_f32(vmulq_n_f32(vld1q_f32(x + p), u), vld1q_f32(mean + p));
            vst1q_f32(out + p, c ? vsubq_f32(v, vld1q_f32(c[r] + p)) : v);
        }
        if (p < d) setun_isa_ref.centre(out + p, x + p, 1, d - p, &u, mean + p, c ? &(const float *){c[r] + p} : 0);
    }
}

static void panel(float *out, const float *x, size_t n, size_t d, const float *mean) {
    enum { ROWS = 2 * LANES };
    for (size_t r = 0; r < ROWS; r++)
        for (size_t p = 0; p < d; p++) out[p * ROWS + r] = r < n ? x[r * d + p] - (mean ? mean[p] : 0) : 0;
}

INLINE void add_row(int64_t *sums, const float *x, size_t d, const double *scales, const float *weight) {
    float64x2_t magic = vdupq_n_f64(SETUN_ROUNDER);
    size_t p = 0;
    for (; p + 2 <= d; p += 2) {
        float64x2_t v = vcvt_f64_f32(vld1_f32(x + p));
        if (weight) v = vmulq_n_f64(v, (double)*weight);
        vst1q_s64(sums + p, vaddq_s64(vld1q_s64(sums + p), vreinterpretq_s64_f64(vfmaq_f64(magic, v, vld1q_f64(scales + p)))));
    }
    if (p < d) setun_isa_ref.add_rows(sums + p, 0, x + p, 1, d - p, scales + p, weight);
}

#include "rows.h"

/* ---- matmul ----
 *
 * A block of 8 rows by 12 columns: 24 accumulators of 32 registers; rows are multiplied by a lane, so that two loads bring eight of them. */

enum { GEMM_ROWS = 8, GEMM_COLS = 12 };

static void gemm(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh) {
    float32x4_t s[GEMM_ROWS][3];
    for (size_t r = 0; r < GEMM_ROWS; r++)
        for (size_t v = 0; v < 3; v++) s[r][v] = fresh || r >= rows ? vdupq_n_f32(0) : vld1q_f32(c + r * ldc + 4 * v);
    for (size_t p = 0; p < k; p++, a += GEMM_ROWS, b += step) {
        float32x4_t x = vld1q_f32(a), y = vld1q_f32(a + 4);
        for (int v = 0; v < 3; v++) {
            float32x4_t u = vld1q_f32(b + 4 * v);
            s[0][v] = vfmaq_laneq_f32(s[0][v], u, x, 0);
            s[1][v] = vfmaq_laneq_f32(s[1][v], u, x, 1);
            s[2][v] = vfmaq_laneq_f32(s[2][v], u, x, 2);
            s[3][v] = vfmaq_laneq_f32(s[3][v], u, x, 3);
            s[4][v] = vfmaq_laneq_f32(s[4][v], u, y, 0);
            s[5][v] = vfmaq_laneq_f32(s[5][v], u, y, 1);
            s[6][v] = vfmaq_laneq_f32(s[6][v], u, y, 2);
            s[7][v] = vfmaq_laneq_f32(s[7][v], u, y, 3);
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < 3; v++) vst1q_f32(c + r * ldc + 4 * v, s[r][v]);
}

static void interleave(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k) { setun_isa_ref.interleave(out, width, x, ld, rows, k); }

static void bytes(int8_t *out, const float *x, size_t n, double f) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        int64x2_t low = vcvtnq_s64_f64(vmulq_n_f64(vcvt_f64_f32(vget_low_f32(v)), f)), high = vcvtnq_s64_f64(vmulq_n_f64(vcvt_high_f64_f32(v), f));
        int32x4_t four = vcombine_s32(vmovn_s64(low), vmovn_s64(high));
        for (int l = 0; l < 4; l++) out[i + (size_t)l] = (int8_t)four[l];
    }
    setun_isa_ref.bytes(out + i, x + i, n - i, f);
}

SETUN_ISA(setun_isa_neon, "neon", .layers = &setun_layers_neon, SETUN_ISA_KMEANS(8, GROUP), SETUN_ISA_MATMUL, SETUN_ISA_CODES(setun_codes_neon));
SETUN_ISA(setun_isa_neondot, "neondot", SETUN_ISA_CODES(setun_codes_neondot));
