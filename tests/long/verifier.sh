#!/usr/bin/env bash
# The task is learned: configs/verifier.yaml for three seeds, and a control run
# whose rewards are shuffled within each group. Passes when the worst seed's
# held-out pass rate is at least 89.7 % and above the best of ten samples from
# its start, every start is between 40 and 70 %, and the control gains nothing.
# About twenty minutes on two cores. OUT (optional argument): folder for the runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=${TENFOLD:-build/app/tenfold}
out=${1:-$(mktemp -d)}

for seed in 1 2 3; do
  [ -e "$out/seed$seed/report.html" ] || "$program" run configs/verifier.yaml --out "$out/seed$seed" --resume --set run.seed=$seed
done
[ -e "$out/control/report.html" ] || "$program" run configs/verifier.yaml --out "$out/control" --resume --set run.seed=1 --set reward.shuffle=true

python3 - "$out" <<'PY'
import json, sys
out, bad, worst = sys.argv[1], [], 1.0
print("%-8s %7s %7s %12s %7s" % ("run", "start", "end", "best of ten", "eta"))
for name in ("seed1", "seed2", "seed3", "control"):
    s = json.load(open("%s/%s/summary.json" % (out, name)))
    e = s["eval"]
    start, end, best = e["sft"]["pass_rate"], e["ppo"]["pass_rate"], e["sft_best_of_10"]["pass_rate"]
    print("%-8s %6.1f%% %6.1f%% %11.1f%% %7.2f" % (name, 100 * start, 100 * end, 100 * best, s.get("eta", float("nan"))))
    if s["ppo"]["probs_diff_max"] != 0 or s["ppo"]["first_minibatch_ratio_max_deviation"] != 0:
        bad.append("%s: the learner's log-probabilities are not the sampler's" % name)
    if name == "control":
        if end > e["sft"]["high"]:
            bad.append("the control gained: %.3f, the start's interval ends at %.3f" % (end, e["sft"]["high"]))
        continue
    worst = min(worst, end)
    if not 0.40 <= start <= 0.70:
        bad.append("%s starts at %.3f" % (name, start))
    if end <= best:
        bad.append("%s ends at %.3f, the best of ten from its start reaches %.3f" % (name, end, best))
if worst < 0.897:
    bad.append("the worst seed ends at %.3f" % worst)
print("worst seed: %.1f %%" % (100 * worst))
for line in bad:
    print("FAILED: " + line)
sys.exit(1 if bad else 0)
PY
