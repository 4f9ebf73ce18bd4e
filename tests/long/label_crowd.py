"""A simulated crowd labels a campaign end to end through HTTP: the real server, invitations, questions, answers.

    TENFOLD=build/app/tenfold python3 tests/long/label_crowd.py RUN FOLDER [--prompts N] [--people N] [--adversaries N]
        [--temperature X] [--seed N] [--labels-each N] [--set KEY=NUMBER]

RUN: a run whose stage collect is done; its verifier's scores are the truth. FOLDER gets labels.db with the campaign
"crowd". People answer at the same time, each in a thread, by the model of reward/judgement.h with the log odds X of a right
candidate against a wrong one; the last ones answer the opposite. Afterwards: what was asked; the time a request took; for
each design, of prompts that one honest person answered, how many of the pairs that differ in truth the recovered ranking
(tenfold label rank) has in the right order, how often its first is one of the best, and the assumed seconds (25 to read a
candidate, 7 to read it again, 4 to decide); how far two honest people agree; who is flagged. labels.db is for
`tenfold fit-reward --labels`.
"""
import argparse
import hashlib
import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from label_kit import PROGRAM, Server  # noqa: E402

STRENGTHS = (0.3, 0.9, 1.8)
READ, AGAIN, DECIDE = 25, 7, 4  # assumed seconds


def truth(run):
    """{(prompt, candidate): score} of the stage collect, first texts of a name."""
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(run, "run.db"), uri=True)
    rows = db.execute("SELECT p.text, c.text, s.value FROM candidates c JOIN groups g USING (stage, step, slot) JOIN prompts p USING (prompt)"
                      " JOIN scores s USING (stage, step, slot, candidate) WHERE stage = 'collect' AND s.term = 'verifier'").fetchall()
    db.close()
    return {(p.strip(), c): v for p, c, v in rows}


class Person(threading.Thread):
    def __init__(self, client, number, temperature, scores, seed):
        super().__init__()
        self.client, self.temperature, self.scores = client, temperature, scores
        self.random = random.Random("%d %d" % (seed, number))
        self.kinds, self.seconds, self.failure = {}, [], None

    def choose(self, values, factor, out):
        """Index of a softmax choice among those not in out."""
        return max((factor * v - math.log(-math.log(self.random.random())), k) for k, v in enumerate(values) if k not in out)[1]

    def answer(self, ask):
        v = [self.scores[ask["prompt"].strip(), text] for text in ask["shown"]]
        strength, n = 0, len(v)
        if ask["kind"] == "duel":
            u = self.random.random()
            x = self.temperature * (v[0] - v[1]) + math.log(u / (1 - u))
            strength = sum(abs(x) > t for t in STRENGTHS)
            ranks = [1, 1] if strength == 0 else [1, 2] if x > 0 else [2, 1]
        elif ask["kind"] == "best_worst":
            best = self.choose(v, self.temperature, ())
            worst = self.choose(v, -self.temperature, (best,))
            ranks = [1 if k == best else 3 if k == worst else 2 for k in range(n)]
        else:
            order = []
            while len(order) < n:
                order.append(self.choose(v, self.temperature, order))
            ranks = [order.index(k) + 1 for k in range(n)]
        tie = max(ranks) == 1
        key = hashlib.sha256(json.dumps([ask["ask"], self.name]).encode()).hexdigest()[:32]
        return {"key": key, "outcome": "tie" if tie else "ranked", "ranks": ranks, "strength": strength, "visible_ms": 4000 * n, "guidelines": 1,
                "page": "crowd"}

    def ask(self, method, path, body=None):
        began = time.perf_counter()
        out = self.client.ok(method, path, body)
        self.seconds.append(time.perf_counter() - began)
        return out

    def run(self):
        try:
            while True:
                n = self.ask("GET", "/api/campaigns/1/next")
                if n["state"] != "ask":
                    self.state = n["state"]
                    return
                self.kinds[n["ask"]["kind"]] = self.kinds.get(n["ask"]["kind"], 0) + 1
                self.ask("POST", "/api/asks/%d/answer" % n["ask"]["ask"], self.answer(n["ask"]))
        except (Exception, SystemExit) as why:
            self.failure = repr(why)


def asked(folder):
    """{number of the prompt: (design, {person}, questions, assumed seconds)}, what each person said of each pair, names by person."""
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(folder, "labels.db"), uri=True)
    rows = db.execute("SELECT number, design, person, shown, ranks, kind FROM labels WHERE assigned = 'task' ORDER BY event").fetchall()
    names = dict(db.execute("SELECT person, name FROM people"))
    db.close()
    prompts, pairs, read = {}, {}, {}
    for number, design, person, shown, ranks, kind in rows:
        shown, ranks = json.loads(shown), json.loads(ranks)
        seen = read.setdefault((number, person), set())
        seconds = DECIDE * (len(shown) if kind == 3 else 1) + sum(AGAIN if c in seen else READ for c in shown)
        seen.update(shown)
        if kind == 3:
            seconds += AGAIN * len(shown)
        _, people, questions, before = prompts.get(number, (design, set(), 0, 0))
        prompts[number] = (design, people | {person}, questions + 1, before + seconds)
        for i, a in enumerate(shown):
            for k, b in enumerate(shown[:i]):
                if ranks[i] != ranks[k]:
                    first = (ranks[i] < ranks[k]) == (a < b)
                    pairs.setdefault((number, min(a, b), max(a, b)), {})[person] = first
    return prompts, pairs, names


def mean(values):
    """With the standard error."""
    n = len(values)
    m = sum(values) / n
    return m, math.sqrt(sum((v - m) ** 2 for v in values) / max(1, n - 1) / n)


def measure(folder, scores, honest):
    """Prints the designs' table; honest: names."""
    prompts, pairs, names = asked(folder)
    done = subprocess.run([PROGRAM, "label", "rank", folder, "--name", "crowd"], capture_output=True, text=True)
    if done.returncode:
        sys.exit("label rank: " + done.stderr)
    designs = {}
    for line in done.stdout.splitlines():
        r = json.loads(line)
        design, people, questions, seconds = prompts[r["number"]]
        if len(people) > 1 or names[min(people)] not in honest:
            continue
        true = [scores[r["prompt"].strip(), c["text"]] for c in r["candidates"]]
        place = {c: k for k, c in enumerate(r["order"])}
        decided = [(i, k) for i in range(len(true)) for k in range(i) if true[i] != true[k]]
        if not decided:
            continue
        d = designs.setdefault(design, ([], [], [], [], []))
        right = sum((place[i] < place[k]) == (true[i] > true[k]) for i, k in decided)
        for values, x in zip(d, (questions, seconds, right / len(decided), true[r["order"][0]] == max(true), true.count(max(true)) / len(true))):
            values.append(x)
    print("| design | prompts | questions | s/prompt | pair accuracy | top-1 | by chance | top-1 per hour |\n|---|---|---|---|---|---|---|---|")
    for design, (questions, seconds, right, top, chance) in sorted(designs.items(), key=lambda d: -len(d[1][0])):
        print("| %s | %d | %.1f | %.0f | %.3f ±%.3f | %.3f ±%.3f | %.3f | %.2f |" % (design, len(top), mean(questions)[0], mean(seconds)[0], *mean(right), *mean(top), mean(chance)[0],
                                                                          3600 * mean(top)[0] / mean(seconds)[0]))
    agree = [said[p] == said[q] for said in pairs.values() for p in said for q in said if p < q and names[p] in honest and names[q] in honest]
    if agree:
        print("two honest people agree on %.1f %% of %d pairs that both decide" % (100 * mean(agree)[0], len(agree)))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("run")
    a.add_argument("folder")
    for name, value in (("prompts", 300), ("people", 5), ("adversaries", 1), ("seed", 1), ("labels-each", 1)):
        a.add_argument("--" + name, type=int, default=value)
    a.add_argument("--temperature", type=float, default=4)
    a.add_argument("--set", action="append", default=[], help="further --set of tenfold label new")
    o = a.parse_args()
    scores = truth(o.run)
    command = [PROGRAM, "label", "new", o.folder, "--name", "crowd", "--from", o.run, "--stage", "collect", "--all-steps", "--limit", str(o.prompts)]
    for s in ["seed=%d" % o.seed, "labels_each=%d" % o.labels_each, "short_words=0", *o.set]:
        command += ["--set", s]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s: %s" % (" ".join(command), done.stderr))
    print(done.stdout, end="")
    server = Server([], folder=o.folder)
    try:
        honest = o.people - o.adversaries
        crowd = [Person(server.person("person %d" % k, keep=True), k, o.temperature if k < honest else -o.temperature, scores, o.seed) for k in range(o.people)]
        began = time.monotonic()
        for p in crowd:
            p.start()
        for p in crowd:
            p.join()
        seconds = time.monotonic() - began
        people = server.as_owner().ok("GET", "/api/owner/people")["people"]
    finally:
        server.stop()
    failures = [p.failure for p in crowd if p.failure]
    kinds = {k: sum(p.kinds.get(k, 0) for p in crowd) for p in crowd for k in p.kinds}
    took = sorted(s for p in crowd for s in p.seconds)
    print(json.dumps({"people": o.people, "answers": sum(kinds.values()), "kinds": kinds, "seconds": round(seconds, 1),
                      "request_ms": {"p50": round(1e3 * took[len(took) // 2], 2), "p99": round(1e3 * took[len(took) * 99 // 100], 2), "most": round(1e3 * took[-1], 2)},
                      "failures": failures}))
    print("seen as dishonest by the server: %s" % (", ".join(p["name"] for p in people if p["flagged"]) or "nobody"))
    measure(o.folder, scores, {"person %d" % k for k in range(honest)})
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
