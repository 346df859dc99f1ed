#!/usr/bin/env bash
# Puts libtorch for C++ into build/torch-venv (1.3 GB on disk, half a minute): the torch wheel without the CUDA stack it depends on,
# plus the two small CUDA libraries that libtorch_cpu itself is linked with. Does nothing when they are there. Python's `import torch`
# wants the whole CUDA stack (another 3 GB): name an environment that has it with -DMNEME_TORCH_SITE=.../site-packages.
# The rooms that need torch are left out of a build that has none: cmake/MnemeTorch.cmake.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/torch-venv
wheels=(torch==2.15.0 nvidia-cuda-runtime==13.5.37 nvidia-cuda-cupti==13.5.25)
[ "$(cat $venv/wheels 2>/dev/null || true)" != "${wheels[*]}" ] || exit 0

echo "Installing ${wheels[*]} with pip into $venv"
mkdir -p build
python3 -m venv --clear $venv || { echo "install_torch.sh: python3 -m venv $venv failed" >&2; exit 1; }
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-cache-dir --no-deps "${wheels[@]}" </dev/null || {
  echo "install_torch.sh: pip could not install ${wheels[*]}; is the network there?" >&2
  exit 1
}
echo "${wheels[*]}" >$venv/wheels
