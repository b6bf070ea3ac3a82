/* SPDX-License-Identifier: Apache-2.0
 *
 * setun/backend.h: the C ABI between Setun and a compute backend.
 *
 * A backend is a shared library that exports ONE symbol, setun_backend. It returns a constant table: who the
 * library is, and which kernels it has. A kernel is one implementation of one op ("quantize with AVX2"). The host
 * times each kernel and sends each call to the fastest, so a backend needs no policy of its own.
 *
 * Every kernel is a function of two pointers: the backend's own context (may be null) and one argument block, a plain struct whose
 * first field is its size. That keeps a call from Go at about 100 ns and without allocation, and lets blocks grow.
 *
 * Rules for a backend
 *   - Results are those of docs/numerics.md, bit for bit. The host checks.
 *   - Memory in a block belongs to the caller and is valid during the call only. Keep no pointer.
 *   - Kernels may be called from any thread, several at once.
 *   - Return a setun_status. Never exit, abort, print, throw or longjmp across this edge; never change the float
 *     environment, install no signal handler. Stack use stays below 256 KiB.
 *   - On SETUN_EINVAL no output has been written. On SETUN_ENONFINITE and SETUN_ECANCELLED outputs are unspecified,
 *     except that an in-place constrain has not touched its data.
 */
#ifndef SETUN_BACKEND_H
#define SETUN_BACKEND_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version --------------------------------------------------------------------------------------------------- */

#define SETUN_MAGIC 0x4e555453u /* "STUN", little-endian */
#define SETUN_ABI 1u            /* raised only when an old backend can no longer be served */

#if defined(_WIN32)
#define SETUN_EXPORT __declspec(dllexport)
#else
#define SETUN_EXPORT __attribute__((visibility("default")))
#endif

/* ---- Results ---------------------------------------------------------------------------------------------------- */

typedef enum setun_status {
    SETUN_OK = 0,
    SETUN_EINVAL = 1,       /* an argument is out of range; message says which */
    SETUN_ENONFINITE = 2,   /* the input holds a NaN or an infinity; bad_index says where */
    SETUN_ECANCELLED = 3,   /* *cancel became non-zero */
    SETUN_ENOMEM = 4,       /* an allocation inside the backend failed */
    SETUN_EUNSUPPORTED = 5, /* this kernel cannot do this combination; the host tries the next one */
    SETUN_ELOST = 6,        /* the device is gone until the process ends; nothing of the context works any more, but close */
    SETUN_EDEVICE = 7       /* the device or its driver refused the call; message says what */
} setun_status;

/* What every argument block begins with. */
typedef struct setun_call {
    uint32_t size;                  /* sizeof the whole block, as the caller was compiled */
    uint32_t message_size;          /* bytes at message */
    char *message;                  /* out: UTF-8 and NUL on failure; may be null */
    const volatile int32_t *cancel; /* looked at now and then; non-zero asks the kernel to stop; may be null */
    int64_t bad_index;              /* out: index of the first NaN or infinity (in y: n + index) */
} setun_call;

/* ---- quantize: float32 to ternary or quinary codes and scales --------------------------------------------------- */

enum { SETUN_TERNARY = 3, SETUN_QUINARY = 5 };
enum { SETUN_ABSMEAN = 1, SETUN_LEAST_SQUARES = 2, SETUN_ABSMAX = 3, SETUN_MAGNITUDE = 4, SETUN_STOCHASTIC = 5 };
enum { SETUN_INT8 = 1, SETUN_2BIT = 2, SETUN_BASE3 = 3 }; /* packed formats hold ternary codes only */

typedef struct setun_quantize {
    setun_call call;
    uint32_t levels, rule, format, reserved;
    const float *x;     /* rows*cols values, row-major */
    int64_t rows, cols; /* both at least 1 */
    int64_t group;      /* values that share a scale, within a row: 1..cols; 0: the whole tensor has one */
    uint64_t seed;      /* of SETUN_STOCHASTIC */
    void *out;          /* rows * row bytes: cols (int8), ceil(cols/4) (2 bits), ceil(cols/5) (base 3) */
    float *scales;      /* 1, or rows * ceil(cols/group) */
} setun_quantize;

/* ---- constrain: project a step on the ball of a radius ---------------------------------------------------------- */

typedef struct setun_constrain {
    setun_call call;
    const float *x; /* n values */
    float *dst;     /* n values; x itself (in place), or memory that does not overlap it */
    int64_t n;
    double radius; /* >= 0, may be infinite */
    double norm;   /* out: ||x||; dst was scaled when norm > radius */
} setun_constrain;

/* ---- dot, norm2 -------------------------------------------------------------------------------------------------- */

typedef struct setun_reduce {
    setun_call call;
    const float *x; /* n values */
    const float *y; /* n values; norm2 ignores it */
    int64_t n;
    double result; /* out */
} setun_reduce;

/* ---- kmeans: the steps of Lloyd's algorithm over a range of rows -------------------------------------------------
 *
 * The host owns the loop (initialisation, empty clusters, convergence); a backend owns the work that touches the points. A call does one
 * step for the rows it is given; the sums of MEAN and ASSIGN are added to what the arrays hold. x' = x * unit - mean.
 *
 * ITERATE is for backends that would wait for the host between steps: whole iterations over all rows. Each is ASSIGN with sums, of centroids whose bias the
 * backend finds itself, and then the centroids go to the means of their clusters, or of length 1 with unit: the update of docs/numerics.md. From the second on
 * MOVED is the backend's choice. Kernels that have it say so by SETUN_ITERATES.
 *
 * With `problems` a call does the step for many small problems that have d and k in common, for backends on which one of them alone would be mostly waiting. x,
 * unit, labels and distance hold the rows of all, n in all; mean, centroids, bias, scale, low, high, sums, counts and next have the parts of all problems, one
 * after another. weights are null, and what setun_problem has counts instead of weight_scale, limit, iterations, MOVED, changed, exact and stopped here. RANGE,
 * MEAN, ASSIGN without sums, DISTANCE without KEEP_MIN, ITERATE and SEED are done so, by kernels that say so by SETUN_GATHERS, for up to 65535 problems; UNIT
 * is a step of rows anyway. */

enum {
    SETUN_KMEANS_RANGE = 1,     /* low[j] = min(low[j], x_j), high likewise, never -0; ENONFINITE on NaN or infinity */
    SETUN_KMEANS_MEAN = 2,      /* sums[j] += sum of rint(x_j * scale[j]) */
    SETUN_KMEANS_ASSIGN = 3,    /* labels; with sums: sums, counts, weight_sums; changed = labels that moved */
    SETUN_KMEANS_DISTANCE = 4,  /* distance[i] = |x' - centroid(label)|^2; without labels: centroid 0 */
    SETUN_KMEANS_POTENTIAL = 5, /* sums[i / 4096] = sum of rint(weight * distance[i] * s); s = weight_scale / 2^(exponent of the greatest product) */
    SETUN_KMEANS_UNIT = 6,      /* distance[i] = 1 / |x_i| */
    SETUN_KMEANS_ITERATE = 7,   /* up to `iterations` of them; labels, sums and counts as ASSIGN leaves them, the centroids in next */
    SETUN_KMEANS_SEED = 8       /* next = k centroids by k-means++; weight_scale = 2^B as for POTENTIAL; distance is scratch; n below 2^31 */
};
enum {
    SETUN_KMEANS_KEEP_MIN = 1, /* DISTANCE: keep the smaller of the old value and the new one */
    SETUN_KMEANS_MOVED = 2     /* ASSIGN: only rows that move are added, and taken from the sums of their old label; integers make that exact */
};

typedef struct setun_problem {
    int64_t first, n;       /* its rows; of rows, and of problems, none overlaps another */
    double weight_scale;    /* SEED */
    double limit;           /* ITERATE */
    int64_t iterations;     /* ITERATE: in and out */
    int64_t changed, exact; /* out */
    uint32_t flags;         /* ITERATE: SETUN_KMEANS_MOVED */
    uint32_t stopped;       /* out; RANGE: 1 where a value is not finite, when the call returns ENONFINITE */
} setun_problem;

typedef struct setun_kmeans {
    setun_call call;
    uint32_t step, flags;
    const float *x; /* n*d, row-major */
    int64_t n, d, k;
    const float *mean;      /* d: subtracted from every row (ASSIGN, DISTANCE) */
    const float *centroids; /* k*d, the mean already subtracted */
    const float *bias;      /* k: -|c|^2/2 (ASSIGN) */
    const float *weights;   /* n, or null */
    const double *scale;    /* d powers of two for the integer sums */
    double weight_scale;    /* power of two for weight_sums; POTENTIAL: 2^B, and s when it returns */
    float *low, *high;      /* d (RANGE) */
    int32_t *labels;        /* n; ASSIGN compares with what is there */
    float *distance;        /* n */
    int64_t *sums;          /* k*d (ASSIGN; null: labels only), d (MEAN), ceil(n/4096) (POTENTIAL) */
    int64_t *counts;        /* k: rows */
    int64_t *weight_sums;   /* k: integer weights; used with weights only */
    int64_t changed;        /* out */
    void *workspace;        /* 64-byte aligned scratch; null: only workspace_size is set */
    int64_t workspace_size; /* in: bytes at workspace; out, when workspace is null: bytes needed */
    const float *unit;      /* n: what every row is multiplied by before the mean is subtracted; null: 1 */
    int64_t exact;          /* out, ASSIGN: how many scores were computed in the canonical chain; n*k unless the backend knew without */
    float *next;            /* ITERATE and SEED: out, k*d; may be centroids; anything where the call fails */
    int64_t iterations;     /* ITERATE, in: at least 1; out: how many were begun. changed is that of the last one, exact that of all */
    double limit;           /* stops when the centroids' squared movement is at most that; negative: never */
    uint32_t stopped;       /* out: why the run stopped */
    uint32_t reserved;
    uint64_t seed;           /* SEED */
    setun_problem *problems; /* null: x is one */
    uint32_t problem_count;
    uint32_t problem_size; /* sizeof(setun_problem), from one to the next */
} setun_kmeans;

enum {
    SETUN_RUN_ALL = 0,     /* so many iterations were asked for */
    SETUN_RUN_SETTLED = 1, /* no label changed: the last iteration has moved no centroid */
    SETUN_RUN_UNMOVED = 2, /* a cluster has become empty: nor has it then, that is for the host */
    SETUN_RUN_STILL = 3    /* the centroids moved by no more than the limit */
};

/* ---- matmul: C = A B, in float32 -------------------------------------------------------------------------------- */

enum {
    SETUN_MATMUL_TRANS_A = 1,   /* A is stored as k rows of m values, not m rows of k */
    SETUN_MATMUL_TRANS_B = 2,   /* B is stored as n rows of k values, not k rows of n */
    SETUN_MATMUL_ACCUMULATE = 4 /* C += A B */
};

typedef struct setun_matmul {
    setun_call call;
    uint32_t flags, reserved;
    int64_t m, n, k; /* all at least 1 */
    const float *a, *b;
    float *c;                             /* m rows of n values; overlaps neither a nor b */
    int64_t lda, ldb, ldc;                /* values from a stored row to the next, at least those of a row */
    int64_t batch;                        /* products, at least 1 */
    int64_t stride_a, stride_b, stride_c; /* values from a product's matrix to the next one's; 0 for a or b: they share it */
    void *workspace;                      /* 64-byte aligned scratch; null: only workspace_size is set */
    int64_t workspace_size;               /* in: bytes at workspace; out, when workspace is null: bytes needed */
} setun_matmul;

/* ---- constrain clusters: each cluster of a step on the ball of its own radius ------------------------------------
 *
 * Either offsets or labels says which value belongs where. On any failure an in-place call has not touched its data. */

typedef struct setun_clusters {
    setun_call call;
    const float *x;         /* n values */
    float *dst;             /* n values; x itself (in place), or memory that does not overlap it */
    int64_t n, k;           /* values and clusters, both at least 1 */
    const int64_t *offsets; /* k+1, from 0 to n, never falling: cluster c is the values offsets[c] .. offsets[c+1]-1; null: labels */
    const int32_t *labels;  /* rows: the cluster of each row, -1 for none; read when offsets is null */
    int64_t rows;           /* of n/rows values each; used with labels only */
    const double *radii;    /* k, >= 0, may be infinite */
    double *norms;          /* out, k */
    void *scratch;          /* labels: 8 * (2*rows + k) bytes, 8-byte aligned; otherwise unused */
} setun_clusters;

/* ---- step: constrain, apply and quantize in one go ---------------------------------------------------------------
 *
 * params += delta constrained to radius; then to describes the quantization of the new params. cancel is looked at until the
 * norm is known; from then on the call completes. A value of delta that is not finite leaves params as they were (bad_index < n); a
 * new parameter that is not finite (bad_index >= n) leaves them completely applied. Every other failure leaves them as they were, since
 * the host may try the next kernel. */

typedef struct setun_step {
    setun_quantize to;  /* call.size is that of setun_step; x is not read */
    float *params;      /* rows*cols values, in and out */
    const float *delta; /* as many; does not overlap params */
    double radius;      /* >= 0, may be infinite */
    double norm;        /* out: ||delta|| */
    double *scratch;    /* ceil(rows*cols / 4096) values */
} setun_step;

/* ---- activations: rows of float32 to int8, each with a scale of its own --------------------------------------------
 *
 * m = the greatest |x| of a row; scale = m / 127; code = rint(x * (127 / m)) in float64, ties to even; all 0 where m is 0. */

typedef struct setun_activations {
    setun_call call;
    const float *x;     /* rows*cols values */
    int64_t rows, cols; /* both at least 1 */
    int8_t *out;        /* rows*cols, -127 .. 127 */
    float *scales;      /* rows */
} setun_activations;

/* ---- ternary matmul: packed codes times int8 activations ----------------------------------------------------------
 *
 * out[b*rows + r] = x_scales[b] * sum over groups g of scale(r, g) * (sum over the group of code * x), the inner sums in integers, the rest in
 * float64, groups in rising order, rounded to float32 at the end. Quinary codes count half. */

enum { SETUN_FOUR5 = 4, SETUN_PLANES = 5, SETUN_SPARSE = 4 /* levels */ };

typedef struct setun_ternary {
    setun_call call;
    uint32_t levels, format;
    const void *codes;         /* rows * row bytes; planes: which codes are not 0, in words of 64 bits */
    const uint8_t *signs;      /* planes: a bit for each of those, and cols/8 + 16 bytes more */
    const int64_t *index;      /* planes: rows+1 positions in signs */
    const float *scales;       /* as of setun_quantize */
    int64_t rows, cols, group; /* likewise */
    const int8_t *x;           /* batch*cols activations */
    const float *x_scales;     /* batch */
    int64_t batch;             /* at least 1 */
    float *out;                /* batch*rows */
    void *workspace;           /* 64-byte aligned scratch; null: only workspace_size is set */
    int64_t workspace_size;    /* in: bytes at workspace; out, when workspace is null: bytes needed */
} setun_ternary;

/* ---- recode: codes in another format ------------------------------------------------------------------------------ */

typedef struct setun_recode {
    setun_call call;
    uint32_t from, to;    /* formats; to: SETUN_INT8, SETUN_2BIT or SETUN_BASE3 */
    const void *codes;    /* as of setun_ternary, and so */
    const uint8_t *signs; /* these */
    const int64_t *index;
    int64_t rows, cols; /* both at least 1 */
    void *out;          /* rows * row bytes */
} setun_recode;

/* ---- rmsnorm: rows over their root mean square, and the gradient of that --------------------------------------------
 *
 * With u = x + delta and r = 1 / sqrt(mean(u^2) + epsilon): out = u * r * gain. The gradient, of x = u: with n = x * r, t = dy * n, e = dy * gain and a =
 * mean(t * gain): out = r * (e - n * a), and dgain += the sum of t over the rows, by blocks of SETUN_NORM_BLOCK rows (docs/numerics.md). Values are not
 * checked.
 *
 * This op and the three that follow work in place. After any failure but that of cancel arrays that are read too, be it under another name, hold what they
 * held, since the host may try the next kernel; those that are only written may hold anything. For buffers of a device device.h says what holds. */

enum { SETUN_GRADIENT = 1, SETUN_ADD = 2 }; /* flags of rmsnorm, softmax and activate */
enum { SETUN_NORM_BLOCK = 32 };

typedef struct setun_rmsnorm {
    setun_call call;
    uint32_t flags, reserved; /* SETUN_GRADIENT; with SETUN_ADD its out is added to */
    int64_t rows, cols;       /* both at least 1 */
    const float *x;           /* rows*cols */
    const float *delta;       /* forward: added to x first; null: nothing is */
    const float *gain;        /* cols; null: all 1 */
    const float *dy;          /* gradient: that of out; may be out */
    float *out;               /* rows*cols; overlaps no other array but dy */
    float *sum;               /* forward with delta: x + delta; may be x or delta */
    float *scale;             /* rows, r: out forward, in for the gradient */
    float *dgain;             /* gradient with gain: cols, added to */
    float *parts;             /* gradient with gain: scratch, ceil(rows / SETUN_NORM_BLOCK) * cols */
    double epsilon;
} setun_rmsnorm;

/* ---- softmax: rows of powers over their sum, and the gradient of that ------------------------------------------------
 *
 * With g the greatest x of a row and e = exp(scale * (x - g)): x = e * (factor / sum of e). The gradient, with p the softmax of factor 1 and x its gradient: x
 * = scale * p * (x - sum of p * x). */

typedef struct setun_softmax {
    setun_call call;
    uint32_t flags, reserved; /* SETUN_GRADIENT */
    int64_t rows, cols;       /* both at least 1 */
    int64_t period;           /* 0, or 1..cols: row r ends after its first cols - period + 1 + r % period values, the others are not read and become 0 */
    const float *p;           /* gradient: rows*cols */
    float *x;                 /* rows*cols, in and out */
    double *stats;            /* forward: 2*rows, g (never -0) and the sum of e, both NaN when the sum is; may be null */
    double factor;            /* forward */
    float scale;              /* at least 0 */
    uint32_t reserved2;
} setun_softmax;

/* ---- activate: the function between two products of a feed-forward, and its gradient ---------------------------------
 *
 * SETUN_RELU2: out = x * max(x, 0); gradient dy * 2 max(x, 0). SETUN_SWIGLU, of a row that holds cols gates g and then cols values u: out = g * s * u, s = 1 /
 * (1 + exp(-g)); gradient dy * u * s * (1 + g * (1 - s)) and dy * g * s. */

enum { SETUN_RELU2 = 1, SETUN_SWIGLU = 2 };

typedef struct setun_activate {
    setun_call call;
    uint32_t kind, flags; /* SETUN_GRADIENT */
    int64_t rows, cols;   /* both at least 1; cols of the result, of which x has twice as many with SETUN_SWIGLU */
    const float *x;
    const float *dy; /* gradient: rows*cols */
    float *out;      /* rows*cols; gradient: as many as x, and may be x */
} setun_activate;

/* ---- update: moments and step of an optimiser ------------------------------------------------------------------------
 *
 * In float64, rounded to float32 where it is stored; moments below 2^-126 in magnitude become +0. SETUN_ADAMW: m = beta1 m + (1 - beta1) grad, v = beta2 v + (1
 * - beta2) grad^2, delta = -rate * (m * unbias1 / (sqrt(v * unbias2) + epsilon) + decay * value). SETUN_MOMENTUM: m = beta1 m + grad, delta = -rate * (m +
 * decay * value). */

enum { SETUN_ADAMW = 1, SETUN_MOMENTUM = 2 };

typedef struct setun_update {
    setun_call call;
    uint32_t method, reserved;
    int64_t n; /* at least 1 */
    const float *value, *grad;
    float *m, *v; /* in and out; v with SETUN_ADAMW only */
    float *delta; /* out; no array overlaps another */
    double rate, decay, beta1, beta2, epsilon, unbias1, unbias2;
} setun_update;

/* ---- The table --------------------------------------------------------------------------------------------------- */

typedef struct setun_ctx setun_ctx; /* a backend's own state; opaque to the host */

typedef enum setun_op {
    SETUN_OP_QUANTIZE = 1,           /* setun_quantize */
    SETUN_OP_CONSTRAIN = 2,          /* setun_constrain */
    SETUN_OP_DOT = 3,                /* setun_reduce */
    SETUN_OP_NORM2 = 4,              /* setun_reduce */
    SETUN_OP_KMEANS = 5,             /* setun_kmeans */
    SETUN_OP_MATMUL = 6,             /* setun_matmul */
    SETUN_OP_CONSTRAIN_CLUSTERS = 7, /* setun_clusters */
    SETUN_OP_STEP = 8,               /* setun_step */
    SETUN_OP_ACTIVATIONS = 9,        /* setun_activations */
    SETUN_OP_TERNARY_MATMUL = 10,    /* setun_ternary */
    SETUN_OP_RECODE = 11,            /* setun_recode */
    SETUN_OP_RMSNORM = 12,           /* setun_rmsnorm */
    SETUN_OP_SOFTMAX = 13,           /* setun_softmax */
    SETUN_OP_ACTIVATE = 14,          /* setun_activate */
    SETUN_OP_UPDATE = 15             /* setun_update */
} setun_op;

typedef struct setun_kernel {
    const char *name; /* short and stable: "avx2", "scalar"; same name for the same way of working in all ops */
    uint32_t op;      /* setun_op; a host skips ops it does not know */
    uint32_t threads; /* how many threads the kernel keeps busy */
    int32_t (*run)(setun_ctx *ctx, void *args);
    uint32_t flags; /* SETUN_FAST, SETUN_ITERATES, SETUN_GATHERS */
    uint32_t reserved;
} setun_kernel;

enum {
    SETUN_FAST = 1,     /* of a kernel: its results are not canonical */
    SETUN_ITERATES = 2, /* of one of kmeans: it has SETUN_KMEANS_ITERATE and SETUN_KMEANS_SEED */
    SETUN_GATHERS = 4   /* of one of those: it takes problems */
};

typedef struct setun_table {
    uint32_t magic;              /* SETUN_MAGIC */
    uint32_t size;               /* sizeof(setun_table) as the backend was compiled; the table only ever grows at its end */
    uint32_t abi;                /* SETUN_ABI */
    uint32_t kernel_size;        /* sizeof(setun_kernel), the stride of kernels */
    const char *name;            /* of the backend: "simd_c" */
    const char *version;         /* of the backend, free text */
    const char *build;           /* compiler and flags, free text */
    const setun_kernel *kernels; /* only those that this machine can run */
    uint32_t kernel_count;
    uint32_t reserved;
    int32_t (*open)(setun_ctx **ctx, char *message, uint32_t message_size); /* may be null: no context */
    void (*close)(setun_ctx *ctx);                                          /* null when open is */
    const struct setun_device *device;                                      /* device.h; null when all arrays have to be in the host's memory */
} setun_table;

/* Returns the table, or null when this library cannot serve that ABI version on this machine. Thread-safe. */
SETUN_EXPORT const setun_table *setun_backend(uint32_t abi);

#ifdef __cplusplus
}
#endif
#endif
