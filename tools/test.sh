#!/usr/bin/env bash
# All of `make test`, stage by stage. A failed stage does not hide the next ones; the last line counts tests and stages.
# MNEME_FUZZ_SECONDS (20): time for each fuzz target. CI=true: warnings of GCC are errors.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
fuzz_seconds=${MNEME_FUZZ_SECONDS:-20}
sanitize=build/sanitize
sanitized_rooms='core|io|kernels|cache'
[ "${CI:-}" = true ] && export MNEME_WERROR=ON
# No test may lean on the language or the decimal comma of whoever runs it.
export LC_ALL=C.UTF-8
export ASAN_OPTIONS=abort_on_error=0:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1

passed=0 failed=0 skipped=0 failures=()

# stage NAME COMMAND...: runs it in a subshell where errors stop, prints how long it took, counts it.
stage() {
  local name=$1 begin=$SECONDS status=0
  shift
  printf '== %s\n' "$name"
  set +e
  (set -e; "$@")
  status=$?
  set -e
  if [ $status -eq 0 ]; then
    passed=$((passed + 1))
    printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - begin))
  else
    failed=$((failed + 1))
    failures+=("$name")
    printf -- '-- %s: FAILED (exit status %d), %d s\n' "$name" $status $((SECONDS - begin))
  fi
}

# Adds the counts of a JUnit file that ctest wrote. A failing test counts beside the stage that ran it.
count() {
  [ -f "$1" ] || return 0
  local tests bad unrun
  tests=$(sed -n 's/^\ttests="\([0-9]*\)"$/\1/p' "$1")
  bad=$(sed -n 's/^\tfailures="\([0-9]*\)"$/\1/p' "$1")
  unrun=$(sed -n 's/^\tskipped="\([0-9]*\)"$/\1/p' "$1")
  passed=$((passed + tests - bad - unrun)) failed=$((failed + bad)) skipped=$((skipped + unrun))
}

run_ctest() {  # FOLDER [ctest options]: fails too when there is no test
  local folder=$1
  shift
  rm -f "$folder/tests.xml"
  ctest --test-dir "$folder" -j 2 --output-on-failure --no-tests=error --output-junit "$PWD/$folder/tests.xml" "$@" |
    { grep -vE '^ +Start +[0-9]+:|Test +#[0-9]+: .* Passed ' || true; }
}

build_sanitized() {
  mkdir -p $sanitize
  cmake -S . -B $sanitize -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DMNEME_SANITIZE=address,undefined \
    -DMNEME_FUZZERS=ON -DMNEME_BENCH=OFF -DMNEME_TORCH=OFF >$sanitize/configure.log 2>&1 || { cat $sanitize/configure.log; return 1; }
  local targets
  mapfile -t targets < <(ninja -C $sanitize -t targets all | sed -nE "/^cmake_/d; s/^(($sanitized_rooms)_test|[a-z0-9_]+_fuzz): phony$/\1/p")
  ninja -C $sanitize -j "$jobs" "${targets[@]}"
}

fuzz_target() {  # NAME: its corpus, then new inputs that are kept in the build folder
  local corpus=tests/fuzz/${1%_fuzz} found=$sanitize/fuzz/$1
  if [ ! -d "$corpus" ]; then
    echo "$1: no corpus in $corpus"
    return 1
  fi
  mkdir -p "$found"
  "$sanitize/bin/$1" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found-" "$found" "$corpus" >"$found.log" 2>&1 || { tail -n 60 "$found.log"; return 1; }
  sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p' "$found.log"
}

check_format() {
  git ls-files -z '*.h' '*.cc' | xargs -0 -r clang-format --dry-run -Werror 2>&1 |
    { sed -nE 's/^([^: ]+):[0-9]+:[0-9]+: error.*/\1: not formatted, run make format/p' | sort -u; }
}

check_package() {
  local prefix=$PWD/build/prefix
  rm -rf "$prefix" build/consumer
  cmake --install build --prefix "$prefix" >build/install.log
  cmake -S examples/consumer -B build/consumer -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >build/consumer.log
  ninja -C build/consumer
  build/consumer/consumer build/consumer/example.safetensors
}

stage 'torch' tools/install_torch.sh
stage 'build' tools/build.sh
stage 'tests' run_ctest build
count build/tests.xml
stage 'golden tests have their label' ctest --test-dir build -L golden --no-tests=error -Q
stage 'build with sanitizers' build_sanitized
stage 'tests with sanitizers' run_ctest $sanitize -L "^($sanitized_rooms)\$"
count $sanitize/tests.xml
for target in $(git ls-files 'mneme/*_fuzz.cc' | sed 's|.*/||; s|\.cc$||'); do
  stage "fuzz $target" fuzz_target "$target"
done
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || [ -x /opt/cuda/bin/nvcc ]; then
  stage 'CUDA kernels' tools/cuda.sh
else
  skipped=$((skipped + 1))
  echo "-- CUDA kernels: skipped, no nvcc on this machine"
fi
stage 'direction of includes' python3 tools/check_includes.py
stage 'length of files' python3 tools/check_lines.py
stage 'names in documents' python3 tools/check_docs.py
stage 'format' check_format
stage 'installed package' check_package

echo "All stages took $SECONDS s."
for name in "${failures[@]}"; do echo "FAILED: $name"; done
echo "$passed passed, $failed failed$([ $skipped -eq 0 ] || echo ", $skipped skipped")"
[ $failed -eq 0 ]
