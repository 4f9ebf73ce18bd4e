#!/usr/bin/env bash
# kill -9 at 100 % of the named fault points: makes a build that has them and
# kills the process that reaches each one, in real runs, at its first and its
# third passage; every run ends with the digest of the undisturbed one. Names or
# patterns choose points: tests/long/faults.sh 'store.*' publish.before_rename
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ cmake -S . -B build-faults -G Ninja -DCMAKE_BUILD_TYPE=Release -DTENFOLD_FAULTS=ON && cmake --build build-faults --target tenfold --parallel "$(nproc)"; } \
  >"$log" 2>&1 || { tail -n 30 "$log"; exit 1; }
TENFOLD=$PWD/build-faults/app/tenfold TENFOLD_SOURCE=$PWD python3 tests/fault_points.py --nth 1 --nth 3 "$@"
