#!/usr/bin/env bash
# A run survives anything: `kill -9` of a random process of it (learner, worker,
# service, a stage, now and then `tenfold run` itself) at random moments, KILLS
# times over as many smoke runs as that takes (default 200), each run ending with
# the digest of the undisturbed one. Prompts are never set aside here: that many
# kills may hit one prompt three times, which would be another, recorded, run.
#
#   KILLS=20 STEPS=8 SEED=3 tests/long/kills.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=$(realpath "${TENFOLD:-build/app/tenfold}")
kills=${KILLS:-200}
command -v pgrep >/dev/null || { echo "skipped: pgrep is not installed (package procps)"; exit 77; }
out=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$out"' EXIT
sets=(--set "ppo.steps=${STEPS:-24}" --set sft.eval_every=10 --set ppo.checkpoint_every=2 --set rollout.set_aside=0)
RANDOM=${SEED:-7}

"$program" run configs/smoke.yaml --out "$out/calm" "${sets[@]}" 2>"$out/err" || { tail -n 20 "$out/err"; exit 1; }
want=$("$program" digest "$out/calm")
echo "digest of the undisturbed run: $want"

declare -A killed=()
total=0 runs=0

# One kill, if there is somebody to kill.
strike() {
  local victims victim role
  mapfile -t victims < <(pgrep -P "$pid" || true)
  [ $((RANDOM % 12)) -ne 0 ] || victims=("$pid")
  [ ${#victims[@]} -gt 0 ] || return 0
  victim=${victims[$((RANDOM % ${#victims[@]}))]}
  role=$(tr '\0' ' ' 2>/dev/null <"/proc/$victim/cmdline" | cut -d ' ' -f 2) || return 0
  [ -n "$role" ] && kill -9 "$victim" 2>/dev/null || return 0
  killed[$role]=$((${killed[$role]:-0} + 1))
  total=$((total + 1))
}

while [ "$total" -lt "$kills" ]; do
  runs=$((runs + 1))
  run="$out/run$runs" starts=0 status=1
  while [ "$status" -ne 0 ]; do
    starts=$((starts + 1))
    [ "$starts" -le 60 ] || { echo "FAILED: run $runs does not end after $starts starts"; tail -n 20 "$out/err"; exit 1; }
    resume=()
    [ ! -e "$run/run.db" ] || resume=(--resume)
    "$program" run configs/smoke.yaml --out "$run" "${resume[@]}" "${sets[@]}" 2>>"$out/err" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
      sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
      [ "$total" -ge "$kills" ] || strike
    done
    status=0
    wait "$pid" 2>/dev/null || status=$?
    while pgrep -f -- "--out $run( |$)" >/dev/null; do sleep 0.1; done # those that `run` left behind are stopping
    case $status in
      0 | 1 | 137) ;; # done; a stage of its own was killed while `run` ended; `run` was killed
      *) echo "FAILED: run $runs ended with status $status"; tail -n 20 "$out/err"; exit 1 ;;
    esac
  done
  got=$("$program" digest "$run")
  [ "$got" = "$want" ] || { echo "FAILED: run $runs has digest $got after $total kills"; "$program" diff "$out/calm" "$run" || true; exit 1; }
  rm -rf "$run"
done
for role in $(printf '%s\n' "${!killed[@]}" | sort); do printf '  %-12s killed %d times\n' "$role" "${killed[$role]}"; done
echo "$total kills over $runs runs, each run with the digest of the undisturbed one"
