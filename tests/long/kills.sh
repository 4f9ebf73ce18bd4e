#!/usr/bin/env bash
# A run survives anything: `kill -9` of a random role at a random moment, KILLS
# times over several smoke runs (default 60), each run ending with the digest of
# the undisturbed one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=$(realpath "${TENFOLD:-build/app/tenfold}")
kills=${KILLS:-60}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
set_steps=(--set ppo.steps=24 --set sft.eval_every=10)

"$program" run configs/smoke.yaml --out "$out/calm" "${set_steps[@]}" 2>/dev/null
want=$("$program" digest "$out/calm")
echo "digest of the undisturbed run: $want"

done_kills=0 runs=0
RANDOM=7
while [ "$done_kills" -lt "$kills" ]; do
  runs=$((runs + 1))
  run="$out/run$runs"
  "$program" run configs/smoke.yaml --out "$run" "${set_steps[@]}" 2>"$out/err" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
    mapfile -t children < <(pgrep -P "$pid" || true)
    [ ${#children[@]} -gt 0 ] || continue
    victim=${children[$((RANDOM % ${#children[@]}))]}
    kill -9 "$victim" 2>/dev/null && done_kills=$((done_kills + 1))
  done
  if ! wait "$pid"; then
    # a stage that is a single process ends the run when it is killed: it is resumed
    "$program" run configs/smoke.yaml --out "$run" --resume "${set_steps[@]}" 2>>"$out/err" || { tail -n 20 "$out/err"; exit 1; }
  fi
  got=$("$program" digest "$run")
  [ "$got" = "$want" ] || { echo "FAILED: run $runs has digest $got after $done_kills kills"; "$program" diff "$out/calm" "$run" || true; exit 1; }
  rm -rf "$run"
done
echo "$done_kills kills over $runs runs, each run with the digest of the undisturbed one"
