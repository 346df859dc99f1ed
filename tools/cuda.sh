#!/usr/bin/env bash
# Compiles the CUDA twins of the kernels and their test into build/cuda, for sm_80, sm_90 and (as PTX) what comes later, and
# runs the test, which says so and is passed over where there is no device. Exit status 77: there is no nvcc here.
# MNEME_CUDA_ARCHITECTURES: another list for CMake, as "86-real;120"
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=$(command -v nvcc || true)
[ -n "$nvcc" ] || for at in /usr/local/cuda/bin/nvcc /opt/cuda/bin/nvcc; do [ -x $at ] && nvcc=$at; done
if [ -z "$nvcc" ]; then
  echo "cuda.sh: no nvcc on this machine (CUDA 12 or later is needed)" >&2
  exit 77
fi
tools/build.sh mneme_kernels mneme_core
mkdir -p build/cuda
cmake -S mneme/kernels/cuda -B build/cuda -G Ninja -DCMAKE_CUDA_COMPILER="$nvcc" -DMNEME_BUILD="$PWD/build" \
  -DCMAKE_CUDA_ARCHITECTURES="${MNEME_CUDA_ARCHITECTURES:-80-real;90}" >build/cuda/configure.log 2>&1 || {
  cat build/cuda/configure.log >&2
  exit 1
}
ninja -C build/cuda -j "${MNEME_JOBS:-$(nproc)}"
status=0
build/cuda/cuda_test || status=$?
[ $status -eq 77 ] || exit $status
