#!/usr/bin/env python3
"""Fails on a source file of more than 500 lines: it probably holds two concepts."""
import pathlib
import subprocess
import sys

LIMIT = 500
PATTERNS = ["*.h", "*.cc", "*.cu", "*.cuh", "*.py", "*.sh", "*.cmake", "*CMakeLists.txt", "Makefile"]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    files = subprocess.run(["git", "ls-files", *PATTERNS], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    long = []
    for path in files:
        if (root / path).exists():
            lines = (root / path).read_bytes().count(b"\n")
            if lines > LIMIT:
                long.append(f"{path}: {lines} lines, the limit is {LIMIT}")
    print("\n".join(long + [f"{len(files)} files, {len(long)} over {LIMIT} lines"]))
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
