#!/usr/bin/env python3
"""A scoring command: one JSON line per group in, one line of scores out.
    --set "reward.command=python3 examples/score.py" --set reward.terms=command:1.0
Here: one point for each distinct word of the prompt that the completion repeats."""
import json, sys

for line in sys.stdin:
    group = json.loads(line)
    words = set(group["prompt"].split())
    scores = [float(len(words & set(text.split()))) for text in group["completions"]]
    print(json.dumps({"id": group["id"], "scores": scores}), flush=True)
