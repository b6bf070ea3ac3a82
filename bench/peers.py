# SPDX-License-Identifier: Apache-2.0
# Times NumPy, scikit-learn or FAISS for `go run ./bench`. The argument names one of them; the process greets with a line that says what it
# runs, then answers each request with one line: "ready", "figure=VALUE …" (nanoseconds a call; inertia in float64) or "error TEXT".
#   load PATH N                      takes N float32 values from the file; every other request uses them from the first on
#   quantize lean|plain N GROUP R    mean of R calls; GROUP 0 is one scale for all
#   constrain inside|outside N R
#   matmul N R                       N×N times N×N
#   kmeans ROWS DIM K ITERATIONS     from the first K rows
#   start ROWS DIM K                 k-means++ alone
import sys
import time
import warnings

import numpy as np

x = None
buffers = {}
inertias = {}
clock = time.perf_counter_ns


def pools(*prefixes):
    """The BLAS libraries in use, with version, kernels and threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "BLAS not known without threadpoolctl"
    found = [p for p in threadpool_info() if p["user_api"] == "blas" and (not prefixes or any(q in p["filepath"] for q in prefixes))]
    return ", ".join(f"{p['internal_api']} {p['version']} {p.get('architecture', '')} {p['num_threads']} threads" for p in found) or "no BLAS found"


def buffer(name, n, dtype):
    """Memory that stays between requests."""
    key = (name, np.dtype(dtype))
    if key not in buffers or len(buffers[key]) < n:
        buffers[key] = np.zeros(n, dtype)
    return buffers[key][:n]


def repeated(f, repeats):
    f()  # not timed: others ran since, and took the caches
    begin = clock()
    for _ in range(repeats):
        f()
    return {"call": (clock() - begin) / repeats}


def numpy_quantize(kind, n, group, repeats):
    v = x[:n].reshape(-1, group) if group else x[:n].reshape(1, n)

    def plain():
        return np.clip(np.round(v / np.mean(np.abs(v), axis=1, keepdims=True)), -1, 1).astype(np.int8)

    t, q = buffer("t", n, np.float32).reshape(v.shape), buffer("q", n, np.int8).reshape(v.shape)

    def lean():
        np.abs(v, out=t)
        s = t.mean(axis=1, keepdims=True)
        np.divide(v, s, out=t)
        np.rint(t, out=t)
        np.minimum(t, 1, out=t)
        np.maximum(t, -1, out=t)
        np.copyto(q, t, casting="unsafe")

    return repeated(plain if kind == "plain" else lean, repeats)


def numpy_constrain(kind, n, repeats):
    v, out = x[:n], buffer("t", n, np.float32)

    def inside():
        return np.sqrt(np.dot(v, v))

    def outside():
        np.multiply(v, np.float32(1) / np.sqrt(np.dot(v, v)), out=out)

    return repeated(inside if kind == "inside" else outside, repeats)


def numpy_matmul(n, repeats):
    a, b = x[: n * n].reshape(n, n), x[n * n : 2 * n * n].reshape(n, n)
    c = buffer("t", n * n, np.float32).reshape(n, n)
    return repeated(lambda: np.matmul(a, b, out=c), repeats)


def inertia(v, labels, centres):
    """The sum of squared distances in float64, which the libraries' own float32 sums are not. Once for a shape: every turn finds the same."""
    key = (v.shape, centres.shape)
    if key not in inertias:
        parts = (np.subtract(v[i : i + 4096], centres[labels[i : i + 4096]], dtype=np.float64) for i in range(0, len(v), 4096))
        inertias[key] = float(sum(np.einsum("ij,ij->", p, p) for p in parts))
    return inertias[key]


def sklearn_kmeans(rows, dim, k, iterations):
    from sklearn.cluster import KMeans

    v = x[: rows * dim].reshape(rows, dim)
    first = v[:k].copy()
    begin = clock()
    fit = KMeans(k, init=first, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(v)
    result = {"fit": (clock() - begin) / iterations}
    if fit.n_iter_ != iterations:
        raise ValueError(f"stopped after {fit.n_iter_} iterations")
    result["inertia"] = inertia(v, fit.labels_, fit.cluster_centers_)
    result.update(sklearn_steps(v, first, iterations - 1))
    return result


def sklearn_start(rows, dim, k):
    from sklearn.cluster import kmeans_plusplus

    begin = clock()
    kmeans_plusplus(x[: rows * dim].reshape(rows, dim), k, n_local_trials=1, random_state=1)
    return {"call": clock() - begin}


def sklearn_steps(v, centres, iterations):
    """The loop inside scikit-learn's fit by itself: an iteration, and its labels alone. Left out where a version has another signature."""
    try:
        from sklearn.cluster._k_means_lloyd import lloyd_iter_chunked_dense as step
        from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
        from threadpoolctl import threadpool_limits
    except ImportError:
        return {}
    rows, k = len(v), len(centres)
    new, shift, mass, weight = np.zeros_like(centres), np.zeros(k, v.dtype), np.zeros(k, v.dtype), np.ones(rows, v.dtype)
    labels, threads = np.full(rows, -1, np.int32), _openmp_effective_n_threads()
    with threadpool_limits(limits=1, user_api="blas"):
        begin = clock()
        for _ in range(iterations):
            step(v, weight, centres, new, mass, labels, shift, threads)
            centres, new = new, centres
        iteration = (clock() - begin) / iterations
        begin = clock()
        step(v, weight, centres, centres, mass, labels, shift, threads, update_centers=False)
        assign = clock() - begin
    return {"iteration": iteration, "assign": assign, "update": iteration - assign}


def faiss_kmeans(rows, dim, k, iterations):
    import faiss

    v = x[: rows * dim].reshape(rows, dim)
    km = faiss.Kmeans(dim, k, niter=iterations, nredo=1, max_points_per_centroid=rows, min_points_per_centroid=1, seed=1)
    begin = clock()
    km.train(v, init_centroids=v[:k].copy())
    result = {"fit": (clock() - begin) / iterations}
    s = km.iteration_stats
    result["iteration"] = (s[-1]["time"] - s[0]["time"]) / (iterations - 1) * 1e9
    index = faiss.IndexFlatL2(dim)
    index.add(km.centroids)
    begin = clock()
    _, labels = index.search(v, 1)
    result["assign"] = clock() - begin
    result["update"] = result["iteration"] - result["assign"]
    result["inertia"] = inertia(v, labels[:, 0], km.centroids)
    return result


def faiss_start(rows, dim, k):
    import faiss

    v, out = x[: rows * dim], np.empty((k, dim), np.float32)
    start = faiss.ClusteringInitialization(dim, k)
    start.method, start.seed = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS, 1
    begin = clock()
    start.init_centroids(rows, faiss.swig_ptr(v), faiss.swig_ptr(out))
    return {"call": clock() - begin}


REQUESTS = {
    "numpy": {"quantize": numpy_quantize, "constrain": numpy_constrain, "matmul": numpy_matmul},
    "sklearn": {"kmeans": sklearn_kmeans, "start": sklearn_start},
    "faiss": {"kmeans": faiss_kmeans, "start": faiss_start},
}


def greet(family):
    if family == "numpy":
        return f"NumPy {np.__version__}: {pools('numpy')}"
    if family == "sklearn":
        import sklearn
        from sklearn.cluster import KMeans

        KMeans(2, n_init=1).fit(np.eye(4, dtype=np.float32))  # loads what it needs
        return f"scikit-learn {sklearn.__version__}: one BLAS thread in each OpenMP thread, {pools('scipy')}"
    import faiss

    options = faiss.get_compile_options().strip()
    if not any(w in options for w in ("AVX", "NEON", "SVE")):
        options += " (GENERIC build: no SIMD)"
    return f"FAISS {faiss.__version__}: compiled with {options}; {faiss.omp_get_max_threads()} threads; {pools('faiss')}"


def answer(family, request):
    global x
    kind, *args = request
    if kind == "load":
        x = np.fromfile(args[0], np.float32, int(args[1]))
        inertias.clear()
        return "ready"
    args = [int(a) if a.isdigit() else a for a in args]
    times = REQUESTS[family][kind](*args)
    return " ".join(f"{k}={v:.9g}" for k, v in times.items())


def main(family):
    warnings.simplefilter("ignore")  # that it did not converge is what was asked for
    print(greet(family), flush=True)
    for line in sys.stdin:
        try:
            reply = answer(family, line.split())
        except Exception as e:  # the other side decides what an error means
            reply = f"error {type(e).__name__}: {e}".replace("\n", " ")
        print(reply, flush=True)


main(sys.argv[1])
