#!/usr/bin/env bash
# The same bits from gcc and clang, optimised and not: builds the presets
# release, clang and debug and compares the digests of the smoke run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v clang >/dev/null || { echo "clang is not installed"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
want=
for preset in release clang debug; do
  dir=build-$preset
  [ "$preset" = release ] && dir=build
  { cmake --preset "$preset" && cmake --build "$dir" --target tenfold --parallel "$(nproc)"; } >"$out/log" 2>&1 || { tail -n 30 "$out/log"; exit 1; }
  for isa in avx2 avx512; do
    grep -q "${isa/avx512/avx512f}" /proc/cpuinfo || continue
    "$dir/app/tenfold" run configs/smoke.yaml --out "$out/$preset-$isa" --set run.isa=$isa 2>"$out/err" || { tail -n 20 "$out/err"; exit 1; }
    got=$("$dir/app/tenfold" digest "$out/$preset-$isa")
    echo "$preset $isa $got"
    want=${want:-$got}
    [ "$got" = "$want" ] || { echo "FAILED: $preset with $isa differs"; exit 1; }
  done
done
