#!/usr/bin/env bash
# Makes build/bench-venv with llama.cpp built from source for this very machine (about five minutes on two cores).
# Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=build/bench-venv
peer=llama-cpp-python==0.3.36
[ "$(cat $venv/peer 2>/dev/null || true)" != "$peer" ] || exit 0

echo "Building $peer from source with pip into $venv"
python3 -m venv --clear $venv || { echo "make_venv.sh: python3 -m venv $venv failed" >&2; exit 1; }
CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
  $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-binary llama-cpp-python "$peer" </dev/null || {
  echo "make_venv.sh: pip could not build $peer; is the network there?" >&2
  exit 1
}
echo "$peer" >$venv/peer
