#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch and CuPy reach on this device at the same work: peers.py [megabytes]. A line of JSON a measurement, like native/cuda/test/gpu_bench.cpp.

float32 throughout unless the name says tf32; "compiled" is torch.compile, which fuses element-wise passes. Each figure is the median over calls,
the wait for the device included.
"""
import json
import statistics
import sys
import time

import torch

megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
n = megabytes * 250000 // 4096 * 4096
gen = torch.Generator(device="cuda").manual_seed(1)
rate = 0.0


def measure(name, shape, f, bytes_=0.0, flops=0.0):
    try:
        for _ in range(3):
            f()
        torch.cuda.synchronize()
        times, begun = [], time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - begun < 0.4 and len(times) < 60):
            at = time.perf_counter()
            f()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - at)
    except Exception as e:  # a peer that fails is a result, too
        print(json.dumps({"name": name, "shape": shape, "error": str(e)[:200]}), flush=True)
        return 0.0
    t = statistics.median(times)
    row = {"name": name, "shape": shape, "ms": round(1e3 * t, 4), "min_ms": round(1e3 * min(times), 4), "max_ms": round(1e3 * max(times), 4), "runs": len(times)}
    if bytes_:
        row["gb_per_s"] = round(bytes_ / t / 1e9, 1)
        if rate:
            row["of_copy"] = round(bytes_ / t / rate, 3)
    if flops:
        row["tflop_per_s"] = round(flops / t / 1e12, 2)
    print(json.dumps(row), flush=True)
    print(f"{name:32s} {shape:26s} {1e3 * t:9.4f} ms", file=sys.stderr)
    return bytes_ / t if bytes_ else 0.0


def quantize(x):
    s = x.abs().mean()
    return ((x > s / 2).to(torch.int8) - (x < -s / 2).to(torch.int8)), s


def quantize_rows(x):
    s = x.abs().mean(dim=1, keepdim=True)
    return ((x > s / 2).to(torch.int8) - (x < -s / 2).to(torch.int8)), s


def constrain(x, w):
    norm = torch.linalg.vector_norm(x)
    return x * torch.clamp(w / norm, max=1.0)


def assign(x, c, half):  # maximises x.c - |c|^2/2, in pieces that fit
    out = []
    for piece in x.split(1 << 18):
        out.append(torch.addmm(half, piece, c.T).argmax(dim=1))
    return torch.cat(out)


print(json.dumps({"name": "device", "device": torch.cuda.get_device_name(), "torch": torch.__version__}), flush=True)
x = torch.randn(n, device="cuda", generator=gen)
y = torch.empty_like(x)
rate = measure("torch copy", str(n), lambda: y.copy_(x), 8.0 * n)
measure("torch norm2", str(n), lambda: torch.linalg.vector_norm(x), 4.0 * n)
measure("torch constrain", str(n), lambda: constrain(x, 1.0), 12.0 * n)
measure("torch quantize", str(n), lambda: quantize(x), 9.0 * n)
m = x.view(-1, 4096)
measure("torch quantize rows", str(n), lambda: quantize_rows(m), 9.0 * n)
for name, f, args in (("constrain", constrain, (x, 1.0)), ("quantize", quantize, (x,)), ("quantize rows", quantize_rows, (m,))):
    g = torch.compile(f)
    measure(f"torch compiled {name}", str(n), lambda: g(*args), (12.0 if name == "constrain" else 9.0) * n)
h = n // 2
for cols in (128, 1024, 4096, 65536):  # the shapes of gpu_bench
    u, v = x[: h // cols * cols].view(-1, cols), y[: h // cols * cols].view(-1, cols)
    shape = f"{u.shape[0]}x{cols}"
    measure("torch rmsnorm", shape, lambda: torch.nn.functional.rms_norm(u, (cols,), x[:cols], 1e-5), 8.0 * u.numel())
    measure("torch softmax", shape, lambda: torch.softmax(u, dim=1, out=v), 8.0 * u.numel())
g = torch.compile(lambda t: torch.nn.functional.silu(t[:, :1024]) * t[:, 1024:])
measure("torch compiled swiglu", f"{h // 1024}x1024", lambda: g(x[: h // 1024 * 2048].view(-1, 2048)), 12.0 * h)
for rows, k in ((1000000, 1024), (n // 128, 1024), (n // 128, 64)):
    p = x[: rows * 128].view(rows, 128)
    c = p[:k].clone()
    half = -0.5 * (c * c).sum(dim=1)
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        measure("torch kmeans labels" + (" tf32" if tf32 else ""), f"{rows}x128 k={k}", lambda: assign(p, c, half), 0, 2.0 * rows * 128 * k)
        g = torch.compile(assign, dynamic=False) if rows == n // 128 and k == 1024 else None
        if g:
            measure("torch compiled kmeans labels" + (" tf32" if tf32 else ""), f"{rows}x128 k={k}", lambda: g(p, c, half), 0, 2.0 * rows * 128 * k)
torch.backends.cuda.matmul.allow_tf32 = False
for size in (1024, 4096, 8192):
    a, b = torch.randn(size, size, device="cuda", generator=gen), torch.randn(size, size, device="cuda", generator=gen)
    measure("torch matmul", f"{size}x{size}x{size}", lambda: a @ b, 0, 2.0 * size**3)
host = torch.randn(n, pin_memory=False)
pinned = host.pin_memory()
measure("torch pinned copy up", str(n), lambda: y.copy_(pinned, non_blocking=True), 4.0 * n)
measure("torch pageable copy up", str(n), lambda: y.copy_(host), 4.0 * n)
try:
    import cupy

    z = cupy.asarray(x)

    def cupy_quantize():
        s = cupy.abs(z).mean()
        return (z > s / 2).astype(cupy.int8) - (z < -s / 2).astype(cupy.int8)

    measure("cupy quantize", str(n), cupy_quantize, 9.0 * n)
    measure("cupy norm2", str(n), lambda: cupy.linalg.norm(z), 4.0 * n)
except ImportError as e:
    print(json.dumps({"name": "cupy", "error": str(e)}), flush=True)
