#!/usr/bin/env python3
"""Writes the seed files of gguf_fuzz and safetensors_fuzz into tests/fuzz/, the same bytes each time."""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fuzz"

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == TEXT else struct.pack("<" + PACK[kind], value)


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + scalar(kind, value)


def array(key, kind, values):
    body = b"".join(scalar(kind, value) for value in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + body


def gguf(pairs, tensors, alignment=32, version=3):
    """tensors: (name, ggml type, extents, bytes)."""
    table, data = b"", b""
    for name, kind, extents, payload in tensors:
        data += bytes(-len(data) % alignment)
        table += text(name) + struct.pack("<I", len(extents)) + struct.pack(f"<{len(extents)}Q", *extents)
        table += struct.pack("<IQ", kind, len(data))
        data += payload
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + table
    return head + bytes(-len(head) % alignment) + data


def safetensors(header, data=b""):
    body = json.dumps(header, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    return struct.pack("<Q", len(body)) + body + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SEEDS = {
    "gguf/empty": gguf([], []),
    "gguf/scalars": gguf([pair(f"k{kind}", kind, 1) for kind in PACK] + [pair("t", TEXT, "value")], []),
    "gguf/arrays": gguf([array("i", I32, [1, -2]), array("f", F32, [0.5]), array("t", TEXT, ["a", "", "bc"]),
                         array("b", BOOL, [True, False])], []),
    "gguf/tensors": gguf([pair("general.alignment", U32, 8)],
                         [("f32", 0, [2, 3], bytes(24)), ("q8", 8, [32], bytes(34)), ("q4k", 12, [256], bytes(144)),
                          ("i8", 24, [], b"\1")], 8),
    "gguf/version2": gguf([pair("general.name", TEXT, "v2")], [("w", 1, [4], bytes(8))], version=2),
    "safetensors/empty": safetensors({}),
    "safetensors/two": safetensors({"__metadata__": {"format": "pt"}, "a": tensor("F32", [2], 0, 8),
                                    "b": tensor("F16", [1, 2], 8, 12)}, bytes(12)),
    "safetensors/edges": safetensors({"none": tensor("I64", [0, 3], 0, 0), "scalar": tensor("BOOL", [], 0, 1),
                                      "caf\u00e9 \"x\"": tensor("BF16", [1], 1, 3)}, bytes(3)),
}

for name, content in SEEDS.items():
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
