#!/usr/bin/env bash
# Prints what a bug report needs. Reads only.
set -euo pipefail
cd "$(dirname "$0")/.."

line() { printf '%-18s %s\n' "$1" "${2:-not there}"; }
version() { "$@" --version 2>/dev/null | head -n 1 || true; }

line mneme "$(git describe --always --dirty 2>/dev/null || true)"
line system "$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME"), $(uname -srm)"
line cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) usable cores"
simd=$(grep -m 1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -xE 'avx2|fma|f16c|avx512[a-z_0-9]*|avx_vnni|amx_[a-z0-9]*' | tr '\n' ' ' || true)
line simd "$simd"
line memory "$(awk '/^MemTotal/{t=$2} /^MemAvailable/{a=$2} END{printf "%.1f GiB, %.1f GiB available", t/2^20, a/2^20}' /proc/meminfo)"
for tool in g++ clang++ cmake ninja ccache python3; do line "$tool" "$(version $tool)"; done
for module in libhwy libutf8proc libxxhash; do line "$module" "$(pkg-config --modversion $module 2>/dev/null || true)"; done
for package in nlohmann-json3-dev libcli11-dev libgtest-dev; do
  line "$package" "$(dpkg-query -W -f '${Version}' $package 2>/dev/null || true)"
done
if [ -f build/CMakeCache.txt ]; then
  line 'build/' "$(sed -nE 's/^(CMAKE_CXX_COMPILER|MNEME_[A-Z]+):[A-Z]+=(.*)/\1=\2/p' build/CMakeCache.txt | tr '\n' ' ')"
fi
for model in build/models/*.gguf; do
  [ ! -e "$model" ] || line model "$model, $(stat -c %s "$model") bytes"
done
