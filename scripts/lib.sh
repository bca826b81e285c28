# SPDX-License-Identifier: MIT
# What the scripts share; sourced, not run. Sets `top` and goes there.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: run as root: $*"
    fi
}

# build PRESET: configures and builds it into build/PRESET.
build() {
    cmake --preset "$1"
    cmake --build --preset "$1"
}
