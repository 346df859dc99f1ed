#!/usr/bin/env bash
# Configures build/ once and builds there.   Usage: tools/build.sh [target...]
# MNEME_WERROR=ON makes warnings errors; MNEME_JOBS limits parallel compilers (default: one a core).
set -euo pipefail
cd "$(dirname "$0")/.."

werror=${MNEME_WERROR:-OFF}
if ! grep -qs "^MNEME_WERROR:BOOL=$werror$" build/CMakeCache.txt || [ ! -f build/build.ninja ]; then
  mkdir -p build
  cmake -S . -B build -G Ninja -DMNEME_WERROR="$werror" >build/configure.log 2>&1 || {
    cat build/configure.log >&2
    exit 1
  }
fi
exec ninja -C build -j "${MNEME_JOBS:-$(nproc)}" "$@"
