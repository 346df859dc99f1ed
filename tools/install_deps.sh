#!/usr/bin/env bash
# Installs with apt-get what a command needs and this machine lacks; touches neither network nor system when all is there.
# Usage: tools/install_deps.sh [build|test|lint|bench]   (MNEME_NO_INSTALL=1 only names what is missing, and fails)
set -euo pipefail

goal=${1:-build}
packages=(g++ cmake ninja-build pkg-config libhwy-dev nlohmann-json3-dev libcli11-dev libutf8proc-dev libxxhash-dev
          libgtest-dev libgmock-dev python3 python3-venv)
# llvm brings the symbolizer, without which a sanitizer's report is a list of addresses.
checkers=(clang libclang-rt-14-dev llvm clang-format)
case $goal in
  build) ;;
  test) packages+=("${checkers[@]}") ;;
  lint) packages+=("${checkers[@]}" clang-tidy) ;;
  bench) packages+=(python3-dev git) ;;
  *) echo "install_deps.sh: unknown goal '$goal', expected build, test, lint or bench" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null || {
  echo "install_deps.sh: this is no Debian; install yourself the likes of: ${packages[*]}" >&2
  exit 2
}
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Mneme needs these Debian packages for '$goal' and will install them with apt-get: ${missing[*]}"
if [ -n "${MNEME_NO_INSTALL:-}" ]; then
  echo "install_deps.sh: MNEME_NO_INSTALL is set, so nothing was installed" >&2
  exit 2
fi
as_root=(env)
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_deps.sh: not root and no sudo here; as root run: apt-get install ${missing[*]}" >&2
    exit 2
  }
  as_root=(sudo env)
fi
apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq -y)
"${apt[@]}" update </dev/null || echo "install_deps.sh: apt-get update failed, trying with the package lists at hand" >&2
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >/dev/null || {
  echo "install_deps.sh: apt-get could not install: ${missing[*]}" >&2
  exit 1
}
