#!/usr/bin/env bash
# All of `make bench`: every program build/bin/bench_*, then ours against llama.cpp. One JSON file each in build/bench/,
# and their kernels in one plot, build/bench/roofline.html.
# Usage: tools/bench.sh MODEL.gguf       MNEME_BENCH_THREADS (default: every core), MNEME_BENCH_PEER=0 leaves llama.cpp out
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1
threads=${MNEME_BENCH_THREADS:-$(nproc)}
out=build/bench
mkdir -p $out

status=0
for source in bench/bench_*.cc; do
  name=$(basename "$source" .cc)
  [ "$name" != bench_model ] || continue  # a part of the comparison below
  echo "== $name"
  "build/bin/$name" --threads "$threads" --json "$out/$name.json" || { echo "$name: FAILED" >&2; status=1; }
done

if [ -x build/bin/bench_torch_attention ]; then
  echo "== attention against torch"
  build/bin/bench_torch_attention --threads "$threads" --json "$out/bench_torch_attention.json" || status=1
fi

echo "== roofline"
build/bin/roofline --out $out/roofline.html $out/bench_*.json || status=1

if [ "${MNEME_BENCH_PEER:-1}" = 1 ]; then
  if [ ! -x build/bin/bench_model ]; then
    echo "bench.sh: no build/bin/bench_model, so nothing to compare with llama.cpp" >&2
    exit 1
  fi
  tools/bench/make_venv.sh
  echo "== against llama.cpp"
  build/bench-venv/bin/python tools/bench/compare_llama_cpp.py --model "$model" --threads "$threads" \
    --json "$out/compare_llama_cpp.json" || status=1
fi
exit $status
