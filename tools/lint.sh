#!/usr/bin/env bash
# clang-tidy over the sources that differ from origin/main (main where there is no remote), or over all with `all`,
# then the source checks. Needs build/compile_commands.json (tools/build.sh writes it).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = all ]; then
  mapfile -t files < <(git ls-files '*.cc')
else
  base=$(git rev-parse --verify --quiet origin/main || git rev-parse HEAD)
  mapfile -t files < <({ git diff --name-only --diff-filter=d "$base" -- '*.cc'; git ls-files --others --exclude-standard '*.cc'; } | sort -u)
fi
# Fuzz targets are compiled in build/sanitize only; examples have their own build.
sources=()
for file in "${files[@]}"; do
  case $file in *_fuzz.cc | examples/*) ;; *) sources+=("$file") ;; esac
done

status=0
if [ ${#sources[@]} -gt 0 ]; then
  echo "clang-tidy: ${#sources[@]} files"
  printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p build --quiet 2> >(grep -vE '^[0-9]+ warnings? (and [0-9]+ errors? )?generated|^Suppressed|^Use -header-filter' >&2 || true) || status=1
fi
for check in includes lines docs; do python3 tools/check_$check.py || status=1; done
git ls-files -z '*.h' '*.cc' | xargs -0 -r clang-format --dry-run -Werror || status=1
exit $status
