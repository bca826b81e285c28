#!/bin/sh
# SPDX-License-Identifier: MIT
# symbols.sh LIST LIBRARY: the library exports the list, and nothing else.
set -eu
list=$1 lib=$2
want=$(grep '^vc_' "$list" | LC_ALL=C sort)
have=$(nm -D --defined-only --format=posix "$lib" | awk '$2 != "A" { sub(/@.*/, "", $1); print $1 }' |
       LC_ALL=C sort)
if [ "$want" != "$have" ]; then
    tmp=$(mktemp -d)
    trap 'rm -rf "$tmp"' EXIT
    echo "$want" >"$tmp/listed"
    echo "$have" >"$tmp/exported"
    diff -u "$tmp/listed" "$tmp/exported" || true
    echo "symbols: $lib does not export what $list lists" >&2
    exit 1
fi
echo "symbols: $(echo "$want" | wc -l) exported, as listed"
