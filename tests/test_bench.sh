#!/usr/bin/env bash
# `tenfold bench` runs every section and its figures are finite and positive.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bench() { "$TENFOLD" bench --config "$TENFOLD_SOURCE/configs/smoke.yaml" "$@"; }

bench --quick --json >"$folder/result.json" 2>"$folder/log"
check='
import json, math, sys
result = json.load(open(sys.argv[1]))
want = "peak linear experts attention small adamw generation scoring iteration overhead store models".split()
wrong = []
def look(where, value):
    if isinstance(value, dict):
        for k, v in value.items(): look(where + "." + k, v)
    elif isinstance(value, list):
        for i, v in enumerate(value): look("%s[%d]" % (where, i), v)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0 or (value == 0 and not where.endswith("t_sync_ms")): wrong.append((where, value))
if list(result["sections"]) != want: wrong.append(("sections", list(result["sections"])))
wrong += [("no row in", k) for k, v in result["sections"].items() if not v]
look("sections", result["sections"])
whole = result["sections"]["iteration"][-1]
if not 0 < whole["eta"] <= 1: wrong.append(("eta", whole["eta"]))
c = whole["counts"]
if abs(sum(c[k] for k in c if k.startswith("t_")) - whole["limit_ms"]) > 1e-3 * whole["limit_ms"]: wrong.append(("limits do not add up", c))
for w in wrong: print(*w)
sys.exit(bool(wrong))'
python3 -c "$check" "$folder/result.json"

# the check sees what is wrong
sed 's/"limit_ms": [0-9.e-]*/"limit_ms": 0.0/' "$folder/result.json" >"$folder/planted.json"
if python3 -c "$check" "$folder/planted.json" >/dev/null; then echo "a planted zero is not seen"; exit 1; fi

bench --quick --markdown --only peak >"$folder/page.md" 2>"$folder/log"
for text in '# Benchmarks' 't_update = ' '## The machine' '| threads |'; do
  grep -q -- "$text" "$folder/page.md" || { echo "--markdown lacks '$text'"; exit 1; }
done

# a section that is measured replaces itself, the others stay
printf '# Benchmarks\n\nold head\n\n## By hand\n\nkept\n\n## AdamW\n\nold\n\n## Last\n\nkept too\n' >"$folder/page.md"
bench --quick --only adamw --update "$folder/page.md" 2>"$folder/log"
bench --quick --only models --update "$folder/page.md" 2>"$folder/log"
python3 - "$folder/page.md" <<'PYTHON'
import sys
page = open(sys.argv[1]).read()
parts = page.split("\n## ")
assert [p.split("\n")[0] for p in parts] == ["# Benchmarks", "By hand", "AdamW", "Last", "Models on disk"], parts
assert "old head" in parts[0] and parts[1] == "By hand\n\nkept\n" and parts[3] == "Last\n\nkept too\n", parts
assert "\nold\n" not in page and "| parameters |" in parts[2] and "--only models`" in parts[4], parts
PYTHON

refused() { # expected status, word of the message, arguments
  local want=$1 word=$2 status=0
  shift 2
  bench "$@" >/dev/null 2>"$folder/log" || status=$?
  [ "$status" = "$want" ] && grep -q -- "$word" "$folder/log" || { echo "bench $*: status $status, $(cat "$folder/log")"; exit 1; }
}
refused 2 "'linear'" --only liner
refused 2 'give one' --json --markdown
