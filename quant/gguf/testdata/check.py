# SPDX-License-Identifier: Apache-2.0
"""Compares this package with gguf-py, the Python package "gguf" of ggml-org/llama.cpp.

  check.py golden DIR      write DIR/golden.gguf and DIR/golden.f32: the files in testdata
  check.py write DIR       write DIR/theirs.gguf and DIR/theirs.f32: random tensors of every type
  check.py read FILE OUT   read FILE, write its tensors as float32 to OUT and print keys and tensors, a JSON object a line

The .f32 files hold the tensors' values as gguf-py dequantizes them, little-endian float32, one tensor after the other.
"""
import json
import sys

import numpy as np
from gguf import GGUFReader, GGUFWriter, GGMLQuantizationType as T
from gguf.constants import GGUFValueType as V
from gguf.quants import dequantize, quantize


def keys(w):
    w.add_uint8("test.u8", 200)
    w.add_int8("test.i8", -100)
    w.add_uint16("test.u16", 60000)
    w.add_int16("test.i16", -30000)
    w.add_uint32("test.u32", 4000000000)
    w.add_int32("test.i32", -2000000000)
    w.add_float32("test.f32", 0.1)
    w.add_bool("test.bool", True)
    w.add_string("test.string", "fünf Trits ergeben ein Byte")
    w.add_uint64("test.u64", 18000000000000000000)
    w.add_int64("test.i64", -9000000000000000000)
    w.add_float64("test.f64", 0.1)
    w.add_array("test.strings", ["a", "", "ß"])
    w.add_array("test.ints", [1, -2, 3])
    w.add_array("test.floats", [0.5, -1.5])
    w.add_array("test.bools", [True, False])


def ternary(rng, shape):
    """Values that are -d, 0 or d, with d a binary16 for each 256: what a ternary quantizer hands over."""
    codes = rng.integers(-1, 2, shape).astype(np.float32)
    d = rng.uniform(0.001, 3, (*shape[:-1], shape[-1] // 256)).astype(np.float16).astype(np.float32)
    return codes * np.repeat(d, 256, axis=-1)


def write(folder, name, tensors, alignment=None):
    w = GGUFWriter(f"{folder}/{name}.gguf", "setun")
    keys(w)
    if alignment:
        w.add_custom_alignment(alignment)
    with open(f"{folder}/{name}.f32", "wb") as values:
        for label, data, t in tensors:
            q = quantize(data.astype(np.float32), t)
            w.add_tensor(label, q, raw_dtype=t)
            dequantize(q, t).astype("<f4").tofile(values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def golden(folder):
    rng = np.random.default_rng(1)
    small = lambda: rng.standard_normal((2, 32)).astype(np.float32)
    write(folder, "golden", [
        ("f32", small(), T.F32), ("f16", small(), T.F16), ("bf16", small(), T.BF16), ("q8_0", small(), T.Q8_0),
        ("tq1_0", ternary(rng, (2, 512)), T.TQ1_0), ("tq2_0", ternary(rng, (2, 512)), T.TQ2_0)])


def theirs(folder):
    rng = np.random.default_rng(2)
    tensors = []
    for t in (T.F32, T.F16, T.BF16, T.Q8_0, T.TQ1_0, T.TQ2_0):
        for i, shape in enumerate([(768,), (37, 512), (3, 5, 256), (2, 3, 4, 256)]):
            for kind, data in (("normal", rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 3)), ("ternary", ternary(rng, shape))):
                tensors.append((f"{t.name}.{i}.{kind}", data, t))
        tensors.append((f"{t.name}.zero", np.zeros((2, 256)), t))
    write(folder, "theirs", tensors, alignment=128)


def read(path, out):
    r = GGUFReader(path)
    for name, field in r.fields.items():
        if not name.startswith("GGUF."):
            print(json.dumps({"key": name, "types": [t.name for t in field.types], "value": contents(field)}))
    with open(out, "wb") as f:
        for t in r.tensors:
            dequantize(np.ascontiguousarray(t.data), t.tensor_type).astype("<f4").tofile(f)
            print(json.dumps({"tensor": t.name, "type": t.tensor_type.name, "dims": [int(n) for n in t.shape], "offset": int(t.data_offset), "size": int(t.n_bytes)}))


def contents(field):
    """The value, or the values of an array: strings as they are, numbers as Python prints them."""
    element = field.types[-1] if field.data else None
    one = (lambda i: bytes(field.parts[i]).decode()) if element == V.STRING else (lambda i: repr(field.parts[i][0].item()))
    values = [one(i) for i in field.data]
    return values if field.types[0] == V.ARRAY else values[0]


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    {"golden": golden, "write": theirs, "read": read}[command](*args)
