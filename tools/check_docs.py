#!/usr/bin/env python3
"""Fails where a document or a header names a file that is not there.

Checked: relative links of Markdown files, and the tests that a header's comments promise (`x_test.cc`, `x_fuzz.cc`).
"""
import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|<img[^>]*\ssrc=\"([^\"]+)\"")
PROOF = re.compile(r"\b([a-z0-9_]+_(?:test|fuzz)\.cc)\b")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    files = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    names = {pathlib.PurePosixPath(path).name for path in files}
    faults = []
    for path in files:
        file = root / path
        if path.endswith(".md") and file.exists():
            for match in LINK.finditer(CODE_BLOCK.sub("", file.read_text(encoding="utf-8"))):
                target = match[1] or match[2]
                if not re.match(r"[a-z]+:", target) and not (file.parent / target).exists():
                    faults.append(f"{path}: links to {target}, which is not there")
        elif path.endswith(".h") and file.exists():
            comments = "\n".join(line for line in file.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("//"))
            for name in sorted(set(PROOF.findall(comments)) - names):
                faults.append(f"{path}: promises {name}, which is not there")
    print("\n".join(faults + [f"{len(faults)} names of files that are not there"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
