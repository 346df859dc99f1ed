#!/usr/bin/env python3
"""Fails on an include that goes against the order of the rooms (DESIGN.md, section 2).

A room includes itself and rooms of lower rank. Rooms of one rank do not know each other, so that either can be built
and tested without its neighbours. Tests and tests/support may use io besides: golden files are safetensors.
`check_includes.py --self-test` proves the rules on made-up lines.
"""
import pathlib
import re
import subprocess
import sys

RANKS = [
    ["core"],
    ["io", "kernels", "simulate"],
    ["nn"],
    ["attention", "cache", "recurrent", "associative", "parametric", "depth"],
    ["vision", "models"],
    ["runtime", "train"],
    ["interpret", "eval", "serve"],
    ["apps"],
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
WITHOUT_TORCH = {"core", "io", "kernels"}
TORCH = re.compile(r"(torch|ATen|c10|caffe2)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path):
    parts = pathlib.PurePosixPath(path).parts
    if parts[0] == "apps":
        return "apps"
    return parts[1] if parts[0] == "mneme" and len(parts) > 2 else None


def is_test(path):
    return re.search(r"_(test|fuzz|testing)\.(cc|h)$", path) is not None


def fault(path, bracket, target):
    """Why `path` must not include `target`, or None."""
    room = room_of(path)
    if room is None:
        return None
    if room not in RANK:
        return f"room '{room}' is not in the order of the rooms (tools/check_includes.py, RANKS)"
    if room in WITHOUT_TORCH and TORCH.match(target):
        return f"{room} is built and fuzzed without torch"
    if bracket == "<":
        return "our own headers are included with quotes" if target.startswith("mneme/") else None
    if target.startswith("hwy/"):
        return None
    if target.startswith(("tests/", "bench/")):
        return None if is_test(path) and target.startswith("tests/") else f"library code does not include {target.split('/')[0]}/"
    other = room_of(target)
    if other is None:
        return "quoted includes start at the repository's root, as mneme/core/error.h"
    if other == room or (other == "io" and is_test(path)):
        return None
    if other not in RANK:
        return f"room '{other}' is not in the order of the rooms"
    if RANK[other] >= RANK[room]:
        return f"{room} may include {', '.join(sorted(r for r in RANK if RANK[r] < RANK[room])) or 'nothing'}, not {other}"
    return None


def check(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        why = match and fault(path, match[1], match[2])
        if why:
            yield f"{path}:{number}: includes {match[2]}: {why}"


def self_test():
    good = [
        ("mneme/io/gguf.cc", '#include "mneme/core/error.h"'),
        ("mneme/cache/policy/snapkv.cc", '#include "mneme/cache/pool.h"'),
        ("mneme/kernels/matmul_test.cc", '#include "tests/support/golden.h"'),
        ("mneme/kernels/matmul_test.cc", '#include "mneme/io/safetensors.h"'),
        ("apps/mneme/run.cc", '#include "mneme/eval/needle.h"'),
        ("mneme/kernels/matmul.cc", '#include "hwy/highway.h"'),
        ("mneme/nn/linear.cc", "#include <ATen/ATen.h>"),
    ]
    bad = [
        ("mneme/core/spec.cc", '#include "mneme/io/gguf.h"'),
        ("mneme/kernels/matmul.cc", '#include "mneme/io/gguf.h"'),
        ("mneme/cache/pool.cc", '#include "mneme/attention/window.h"'),
        ("mneme/runtime/engine.h", '#include "mneme/eval/needle.h"'),
        ("mneme/io/gguf.cc", '#include "gguf.h"'),
        ("mneme/io/gguf.cc", "#include <mneme/io/gguf.h>"),
        ("mneme/io/gguf.cc", '#include "tests/support/golden.h"'),
        ("mneme/kernels/matmul.cc", "#include <torch/torch.h>"),
        ("mneme/unheard/of.cc", '#include "mneme/core/error.h"'),
    ]
    wrong = [case for case in good if list(check(*case))] + [case for case in bad if not list(check(*case))]
    for case in wrong:
        print(f"check_includes.py: self-test judges wrongly: {case}")
    return wrong


def main():
    if self_test():
        return 1
    if sys.argv[1:] == ["--self-test"]:
        return 0
    root = pathlib.Path(__file__).resolve().parent.parent
    files = subprocess.run(["git", "ls-files", "mneme/*.h", "mneme/*.cc", "apps/*.h", "apps/*.cc"],
                           cwd=root, check=True, capture_output=True, text=True).stdout.split()
    faults = [f for path in files if (root / path).exists() for f in check(path, (root / path).read_text(encoding="utf-8"))]
    print("\n".join(faults + [f"{len(files)} files, {len(faults)} includes against the order of the rooms"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
