# SPDX-License-Identifier: Apache-2.0
# Times ternary absmean quantization in NumPy. Reads "lean|plain N REPEATS" lines, answers nanoseconds a call.
#   plain: s = mean|x|; clip(round(x/s), -1, 1) as int8, the line that people write
#   lean:  the same with every buffer allocated beforehand
import sys
import time

import numpy as np

print(np.__version__, flush=True)
inputs = {}
for request in sys.stdin:
    kind, n, repeats = request.split()
    n, repeats = int(n), int(repeats)
    if n not in inputs:
        inputs.clear()
        inputs[n] = (np.random.default_rng(1).standard_normal(n, dtype=np.float32), np.empty(n, np.float32), np.empty(n, np.int8))
    x, t, q = inputs[n]

    def plain():
        return np.clip(np.round(x / np.mean(np.abs(x))), -1, 1).astype(np.int8)

    def lean():
        np.abs(x, out=t)
        s = t.mean()
        np.divide(x, s, out=t)
        np.rint(t, out=t)
        np.minimum(t, 1, out=t)
        np.maximum(t, -1, out=t)
        np.copyto(q, t, casting="unsafe")

    f = plain if kind == "plain" else lean
    f()  # not timed: others ran since, and took the caches
    begin = time.perf_counter()
    for _ in range(repeats):
        f()
    print((time.perf_counter() - begin) / repeats * 1e9, flush=True)
