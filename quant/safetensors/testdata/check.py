# SPDX-License-Identifier: Apache-2.0
"""Compares this package with the Python package "safetensors", the reference implementation.

  check.py golden DIR      write DIR/golden.safetensors, the file in testdata
  check.py read FILE       read FILE and print its tensors, a JSON object a line, values as float32 bits
"""
import json
import struct
import sys

import numpy as np
from safetensors import TensorSpec, deserialize, serialize


def golden(folder):
    f32 = np.array([[0, 1, -2.5], [3e-5, 65504, -0.0]], np.float32)
    bf16 = (f32.view(np.uint32) >> 16).astype(np.uint16)  # truncated: which values they are does not matter
    arrays = {
        "f32": ("float32", f32), "f16": ("float16", f32.astype(np.float16).reshape(3, 2)), "bf16": ("bfloat16", bf16.reshape(6)), "scalar": ("float32", np.array(7, np.float32)),
        "empty": ("float32", np.zeros((0, 5), np.float32)), "ints": ("int64", np.array([1, -1])), "fünf \"Trits\"\n": ("uint8", np.array([5], np.uint8))}
    data = serialize({name: TensorSpec(dtype=t, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes) for name, (t, a) in arrays.items()}, {"format": "np", "note": "a\tb"})
    with open(f"{folder}/golden.safetensors", "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        for name, t in deserialize(f.read()):
            n = len(t["data"]) // 4
            print(json.dumps({"name": name, "type": t["dtype"], "shape": t["shape"], "bits": list(struct.unpack(f"<{n}I", t["data"][: 4 * n]))}))


if __name__ == "__main__":
    command, arg = sys.argv[1:]
    {"golden": golden, "read": read}[command](arg)
