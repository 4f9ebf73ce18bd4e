#!/usr/bin/env bash
# What docs/extending.md promises: the C examples build outside of the tree, a
# command, a service in Python, a service in C and another loss work in a run.
set -euo pipefail
folder=$(mktemp -d)
service=
trap '[ -z "$service" ] || kill "$service" 2>/dev/null || true; rm -rf "$folder"' EXIT
build=$(cd "$(dirname "$TENFOLD")/.." && pwd)
examples=$TENFOLD_SOURCE/examples
fail() { echo "$*"; exit 1; }
python=python3 # the one whose packages the distribution brings, where it is not the first
if [ -x /usr/bin/python3 ]; then python=/usr/bin/python3; fi

# built against the libraries of this build, with its sanitizers
flags=$(sed -n 's/^TENFOLD_SANITIZE:[A-Z]*=\(..*\)/-fsanitize=\1/p' "$build/CMakeCache.txt")
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
cmake -S "$examples/extending" -B "$folder/own" -DTENFOLD_SOURCE="$TENFOLD_SOURCE" -DTENFOLD_BUILD="$build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="$flags -Wall -Wextra -D_GNU_SOURCE" >"$folder/log" || fail "$(cat "$folder/log")"
cmake --build "$folder/own" >"$folder/log" 2>&1 || fail "$(cat "$folder/log")"
sums=$folder/own/sums

"$sums" prompts 400 >"$folder/prompts.jsonl"
"$sums" examples 400 >"$folder/examples.jsonl"
cat >"$folder/sums.yaml" <<YAML
run: {seed: 1, stages: "sft, ppo", workers: 1, services: 1}
model: {width: 32, layers: 1, heads: 1, kv_heads: 1, head_dim: 32, experts: 8, experts_per_token: 2, expert_width: 16}
tokenizer: {vocab_size: 260}
task: {name: prompts, prompts: $folder/prompts.jsonl, completions: $folder/examples.jsonl, heldout: 40}
sft: {steps: 30, batch: 16}
rollout: {max_new_tokens: 6}
reward: {terms: "command:1.0", command: "python3 $examples/score.py"}
ppo: {steps: 2, prompts: 4, gradient_block: 2, micro_batch: 2, minibatches: 2}
YAML
run() { # program, name, arguments
  local program=$1 name=$2
  shift 2
  "$program" run "$folder/sums.yaml" --out "$folder/$name" "$@" >"$folder/log" 2>&1 || fail "$name: $(cat "$folder/log")"
}
metric() { # run, name, steps: the values of the first so many steps
  "$python" -c 'import json, sys
for line in open(sys.argv[1]).readlines()[:int(sys.argv[3])]: print("%.17g" % json.loads(line)[sys.argv[2]])' "$folder/$1/metrics.jsonl" "$2" "$3"
}

run "$TENFOLD" command
[ "$(metric command reward/command 9 | wc -l)" = 2 ] || fail "the command's scores are not in the metrics"
again() { # the stage ppo from the first run's model
  local program=$1 name=$2
  shift 2
  run "$program" "$name" --set run.stages=ppo --set model.init="$folder/command/models/sft" "$@"
}

# a service in C: its endpoint is the first line it prints
"$sums" serve "tcp://127.0.0.1:*" >"$folder/endpoint" &
service=$!
for _ in $(seq 100); do [ -s "$folder/endpoint" ] && break; sleep 0.05; done
again "$TENFOLD" service --set net.rewards="$(cat "$folder/endpoint")" --set "reward.terms=sum:1.0, digits:0.1" --set reward.command=
kill "$service" && wait "$service" || fail "the service did not stop cleanly"
service=
right=$(metric service reward/sum 2 | tail -n 1)
"$python" -c 'import sys; sys.exit(not 0 <= float(sys.argv[1]) <= 1)' "$right" || fail "reward/sum is $right"

# a service in Python, where its packages are
if "$python" -c 'import zmq, msgpack' 2>/dev/null; then
  port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$python" "$examples/reward_service.py" "tcp://127.0.0.1:$port" &
  service=$!
  again "$TENFOLD" python --set net.rewards="tcp://127.0.0.1:$port" --set "reward.terms=short:1.0" --set reward.command=
  kill "$service"; wait "$service" 2>/dev/null || true
  service=
  [ "$(metric python reward/short 9 | wc -l)" = 2 ] || fail "the Python service's scores are not in the metrics"
else
  echo "skipped: the service in Python (packages python3-zmq, python3-msgpack)"
fi

# another loss: the same samples in the first step, other weights after it
again "$TENFOLD" plain
again "$folder/own/tenfold-spo" spo
[ "$(metric plain objective/scores 1)" = "$(metric spo objective/scores 1)" ] || fail "the loss changed what was sampled before it"
status=0
"$TENFOLD" diff "$folder/plain" "$folder/spo" >"$folder/diff" || status=$?
[ "$status" = 4 ] || fail "another loss changed nothing: $(cat "$folder/diff")"
[ "$(metric spo policy/clipfrac_avg 2 | sort -u)" = 0 ] || fail "the other loss clips: $(metric spo policy/clipfrac_avg 2)"
