/* SPDX-License-Identifier: Apache-2.0
 *
 * AVX-512 VNNI: the screen of k-means. A multiply-add of 64 codes of 8 bits, or 32 of 16, where float32 has 16 values.
 *
 * A tile is 32 points by 12 centroids, as in nearest.h: 24 accumulators, two panel loads and 12 broadcasts that are operands in memory, for 24 instructions of
 * 64 or 32 products each. Zen 4 issues one a cycle, so the screen's peak is 4 or 2 times that of float32. Measured there, labels of 128 dimensions and 1024
 * centroids with what is scored again: 365 GFLOP/s of the plain work, 3.1 times float32's peak; 600 on two cores. */
#include "screen.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 32, GROUP = 12 }; /* those of setun_isa_avx512vnni */

INLINE __mmask16 first16(size_t n) { return (__mmask16)((1u << n) - 1); }

static void lengths(float *out, const float *x, size_t n, size_t d) {
    for (size_t r = 0; r < n; r++, x += d) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t p = 0; p < d; p += 16) {
            __m512 v = _mm512_maskz_loadu_ps(first16(d - p < 16 ? d - p : 16), x + p);
            sum = _mm512_fmadd_ps(v, v, sum);
        }
        out[r] = _mm512_reduce_add_ps(sum);
    }
}

/* Codes of `bytes` bytes each. */
INLINE float encode(const size_t bytes, void *codes, const float *x, size_t d, float inverse, float quantum) {
    __m512 scale = _mm512_set1_ps(inverse), unit = _mm512_set1_ps(quantum), errors = _mm512_setzero_ps();
    for (size_t p = 0; p < d; p += 16) {
        size_t left = d - p < 16 ? d - p : 16;
        __m512 v = _mm512_maskz_loadu_ps(first16(left), x + p);
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, scale));
        __m512 e = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), unit, v);
        errors = _mm512_fmadd_ps(e, e, errors);
        __mmask16 whole = first16((left + 4 / bytes - 1) & ~(4 / bytes - 1)); /* to the end of a word */
        if (bytes == 1)
            _mm_mask_storeu_epi8((int8_t *)codes + p, whole, _mm_xor_si128(_mm512_cvtepi32_epi8(q), _mm_set1_epi8((char)0x80)));
        else
            _mm256_mask_storeu_epi16((int16_t *)codes + p, whole, _mm512_cvtepi32_epi16(q));
    }
    return _mm512_reduce_add_ps(errors);
}

static float encode8(void *codes, const float *x, size_t d, float inverse, float quantum) { return encode(1, codes, x, d, inverse, quantum); }
static float encode16(void *codes, const float *x, size_t d, float inverse, float quantum) { return encode(2, codes, x, d, inverse, quantum); }

static void biases(int32_t *out, const float *bias, const int32_t *offset, size_t k, float inverse) {
    for (size_t j = 0; j < k; j += 16) {
        __mmask16 m = first16(k - j < 16 ? k - j : 16);
        __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(m, bias + j), _mm512_set1_ps(inverse)));
        _mm512_mask_storeu_epi32(out + j, m, _mm512_sub_epi32(b, _mm512_maskz_loadu_epi32(m, offset + j)));
    }
}

/* Adds the products of the codes in each word of u and in the word at c. Written out, because GCC 12 copies every accumulator in a loop of the intrinsics, at
 * half the speed. */
INLINE __m512i add_products(const size_t bytes, __m512i s, __m512i u, const int32_t *c) {
#ifdef __GNUC__
    if (bytes == 1)
        __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(u), "m"(*c));
    else
        __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(u), "m"(*c));
    return s;
#else
    return bytes == 1 ? _mm512_dpbusd_epi32(s, u, _mm512_set1_epi32(*c)) : _mm512_dpwssd_epi32(s, u, _mm512_set1_epi32(*c));
#endif
}

/* The greatest and the second greatest scores of two times 16 points, and whose the greatest is. */
typedef struct front {
    __m512i first[2], second[2], index[2];
} front;

/* g and bytes are constants wherever this is inlined. */
INLINE void score_group(const int g, const size_t bytes, const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, front *out) {
    __m512i a[GROUP], b[GROUP];
    for (int c = 0; c < g; c++) a[c] = b[c] = _mm512_set1_epi32(bias[c]);
    for (size_t w = 0; w < words; w++, panel += ROWS, packed += g) {
        __m512i u = _mm512_loadu_si512(panel), v = _mm512_loadu_si512(panel + 16);
#pragma GCC unroll 16
        for (int c = 0; c < g; c++) {
            a[c] = add_products(bytes, a[c], u, packed + c);
            b[c] = add_products(bytes, b[c], v, packed + c);
        }
    }
    __m512i a2 = _mm512_set1_epi32(INT32_MIN), b2 = a2, ai = _mm512_setzero_si512(), bi = ai;
#pragma GCC unroll 16
    for (int c = 1; c < g; c++) {
        __m512i at = _mm512_set1_epi32(c);
        ai = _mm512_mask_mov_epi32(ai, _mm512_cmpgt_epi32_mask(a[c], a[0]), at);
        bi = _mm512_mask_mov_epi32(bi, _mm512_cmpgt_epi32_mask(b[c], b[0]), at);
        a2 = _mm512_max_epi32(a2, _mm512_min_epi32(a[0], a[c]));
        b2 = _mm512_max_epi32(b2, _mm512_min_epi32(b[0], b[c]));
        a[0] = _mm512_max_epi32(a[0], a[c]);
        b[0] = _mm512_max_epi32(b[0], b[c]);
    }
    *out = (front){{a[0], b[0]}, {a2, b2}, {ai, bi}};
}

/* One function for each size of a group, as in nearest.h. */
typedef void score_fn(const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, front *out);
#define SCORE(bytes, g)                                                                                                                                        \
    static __attribute__((noinline)) void score_##bytes##_##g(const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, front *out) {    \
        score_group(g, bytes, panel, words, packed, bias, out);                                                                                                \
    }
#define SIZES(X, b) X(b, 1) X(b, 2) X(b, 3) X(b, 4) X(b, 5) X(b, 6) X(b, 7) X(b, 8) X(b, 9) X(b, 10) X(b, 11) X(b, 12)
SIZES(SCORE, 1)
SIZES(SCORE, 2)
#define NAME(bytes, g) score_##bytes##_##g,
static score_fn *const scores[2][GROUP + 1] = {{0, SIZES(NAME, 1)}, {0, SIZES(NAME, 2)}};

INLINE void groups(score_fn *const *score, const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, size_t k, int32_t *greatest,
                   setun_standing *out, const char *ahead, size_t lines) {
    size_t share = lines / ((k - 1) / GROUP + 1) + 1;
    __m512i none = _mm512_set1_epi32(INT32_MIN);
    front all = {{none, none}, {none, none}, {none, none}}, one;
    for (size_t j = 0, g; j < k; j += g, greatest += ROWS) {
        for (size_t l = 0; l < share && lines > 0; l++, lines--, ahead += 64) __builtin_prefetch(ahead, 0, 2);
        g = setun_group(k, GROUP, j);
        score[g](panel, words, packed + j * words, bias + j, &one);
        for (int h = 0; h < 2; h++) {
            _mm512_storeu_si512(greatest + 16 * h, one.first[h]);
            __mmask16 gt = _mm512_cmpgt_epi32_mask(one.first[h], all.first[h]);
            all.second[h] = _mm512_max_epi32(_mm512_max_epi32(all.second[h], one.second[h]), _mm512_min_epi32(all.first[h], one.first[h]));
            all.index[h] = _mm512_mask_add_epi32(all.index[h], gt, one.index[h], _mm512_set1_epi32((int)j));
            all.first[h] = _mm512_max_epi32(all.first[h], one.first[h]);
        }
    }
    memcpy(out->first, all.first, sizeof all.first);
    memcpy(out->second, all.second, sizeof all.second);
    memcpy(out->index, all.index, sizeof all.index);
}

static void groups8(const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, size_t k, int32_t *greatest, setun_standing *out,
                    const char *ahead, size_t lines) {
    groups(scores[0], panel, words, packed, bias, k, greatest, out, ahead, lines);
}

static void groups16(const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, size_t k, int32_t *greatest, setun_standing *out,
                     const char *ahead, size_t lines) {
    groups(scores[1], panel, words, packed, bias, k, greatest, out, ahead, lines);
}

/* The rows, one a bit, for which a group is to be scored again. */
INLINE uint32_t open_rows(const int32_t *greatest, __m512i l0, __m512i l1) {
    return _mm512_cmpge_epi32_mask(_mm512_loadu_si512(greatest), l0) | (uint32_t)_mm512_cmpge_epi32_mask(_mm512_loadu_si512(greatest + 16), l1) << 16;
}

static size_t count(const int32_t *greatest, size_t groups, const int32_t *least) {
    __m512i l0 = _mm512_loadu_si512(least), l1 = _mm512_loadu_si512(least + 16);
    size_t n = 0;
    for (size_t g = 0; g < groups; g++, greatest += ROWS) n += (size_t)__builtin_popcount(open_rows(greatest, l0, l1));
    return n;
}

/* ---- The canonical scores of the groups that are left ------------------------------------------------------------- */

/* Four chains at once hide the latency of the multiply-add. */
enum { CHAINS = 4 };

/* A row to be scored against a group: lanes are its centroids. */
typedef struct pair {
    const float *x, *packed;
    size_t size;
    int32_t row, first;
} pair;

typedef struct queue {
    pair of[CHAINS];
    int length;
    size_t d;
    const float *bias;
    float best[ROWS];
    int32_t *label;
} queue;

static void flush(queue *q) {
    const float *x[CHAINS], *c[CHAINS];
    size_t size[CHAINS];
    __m512 s[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        const pair *p = &q->of[i < q->length ? i : 0];
        x[i] = p->x, c[i] = p->packed, size[i] = p->size;
        s[i] = _mm512_maskz_loadu_ps(first16(p->size), q->bias + p->first);
    }
    for (size_t p = 0; p < q->d; p++) {
#pragma GCC unroll 4
        for (int i = 0; i < CHAINS; i++, c[i - 1] += size[i - 1])
            s[i] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(first16(size[i]), c[i]), _mm512_set1_ps(x[i][p]), s[i]);
    }
    for (int i = 0; i < q->length; i++) {
        const pair *p = &q->of[i];
        __mmask16 lanes = first16(p->size);
        float top = _mm512_mask_reduce_max_ps(lanes, s[i]);
        if (!(top > q->best[p->row])) continue; /* the groups of a row come in rising order: the lowest of equals stays */
        q->best[p->row] = top;
        q->label[p->row] = p->first + __builtin_ctz(_mm512_mask_cmp_ps_mask(lanes, s[i], _mm512_set1_ps(top), _CMP_EQ_OQ));
    }
    q->length = 0;
}

static void settle(const float *x, size_t n, size_t d, const float *packed, const float *bias, size_t k, const int32_t *greatest, const int32_t *least,
                   int32_t *label) {
    __m512i l0 = _mm512_loadu_si512(least), l1 = _mm512_loadu_si512(least + 16);
    queue q = {.d = d, .bias = bias, .label = label};
    for (size_t r = 0; r < n; r++) q.best[r] = -__builtin_inff();
    for (size_t j = 0, g; j < k; j += g, greatest += ROWS) {
        g = setun_group(k, GROUP, j);
        for (uint32_t open = open_rows(greatest, l0, l1); open; open &= open - 1) {
            int row = __builtin_ctz(open);
            q.of[q.length++] = (pair){x + (size_t)row * d, packed + j * d, g, row, (int32_t)j};
            if (q.length == CHAINS) flush(&q);
        }
    }
    if (q.length > 0) flush(&q);
}

const setun_screen setun_screen_vnni = {lengths, {encode8, encode16}, biases, {groups8, groups16}, count, settle};
