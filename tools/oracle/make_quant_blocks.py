#!/usr/bin/env python3
"""Makes tests/quant/blocks.safetensors: blocks of every GGUF weight type with ggml's own float32 values.

Oracle: the libggml-base shared library inside llama-cpp-python (its quantisers and dequantisers, through ctypes).
Per type two rows of 512 elements: <TYPE>/blocks (bytes, [2, row bytes]) and <TYPE>/values (float32, [2, 512]). The first row is quantised
normal data; the second has random bytes in every field but the f16 ones, so that all bits of the layout are seen.

Usage: make_quant_blocks.py OUTPUT  (needs numpy and llama-cpp-python)
"""

import ctypes
import json
import struct
import sys
from pathlib import Path

import llama_cpp
import numpy as np

COLUMNS = 512
# name: (ggml type number, block elements, block bytes, offsets of the f16 fields)
TYPES = {
    "Q4_0": (2, 32, 18, [0]),
    "Q4_1": (3, 32, 20, [0, 2]),
    "Q5_0": (6, 32, 22, [0]),
    "Q5_1": (7, 32, 24, [0, 2]),
    "Q8_0": (8, 32, 34, [0]),
    "Q4_K": (12, 256, 144, [0, 2]),
    "Q5_K": (13, 256, 176, [0, 2]),
    "Q6_K": (14, 256, 210, [208]),
}


def make_rows(lib, rng, name):
    number, elements, block_bytes, fields = TYPES[name]
    row_bytes = COLUMNS // elements * block_bytes
    blocks = np.zeros((2, row_bytes), np.uint8)
    data = rng.standard_normal(COLUMNS).astype(np.float32)
    quantize = lib.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    written = quantize(number, data.ctypes.data, blocks[0].ctypes.data, 0, 1, COLUMNS, None)
    assert written == row_bytes, (name, written, row_bytes)
    blocks[1] = rng.integers(0, 256, row_bytes)
    for at in range(0, row_bytes, block_bytes):
        for field in fields:
            scale = np.float16(rng.standard_normal() * 0.01)
            blocks[1, at + field : at + field + 2] = np.frombuffer(scale.tobytes(), np.uint8)
    values = np.zeros((2, COLUMNS), np.float32)
    dequantize = getattr(lib, "dequantize_row_" + name.lower().replace("_k", "_K"))
    dequantize.restype = None
    dequantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    for row in range(2):
        dequantize(blocks[row].ctypes.data, values[row].ctypes.data, COLUMNS)
    return blocks, values


def main(output):
    folder = Path(llama_cpp.__file__).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    rng = np.random.default_rng(20)
    header, payload = {"__metadata__": {"provenance": "ggml of llama-cpp-python " + llama_cpp.__version__}}, b""
    for name in TYPES:
        for part, tensor, dtype in zip(("values", "blocks"), make_rows(lib, rng, name)[::-1], ("F32", "U8")):
            data = tensor.tobytes()
            header[f"{name}/{part}"] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(payload), len(payload) + len(data)]}
            payload += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(output).write_bytes(struct.pack("<Q", len(text)) + text + payload)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
