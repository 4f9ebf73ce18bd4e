#!/usr/bin/env python3
"""Golden values for tests/test_ppo.c, from the papers' equations in plain Python: python3 tests/golden/ppo_golden.py

Written from the papers, not from ppo/: sums where the C code has recursions, min where it has max. Inputs are multiples
of 1/1024 from a small generator, so that they are exact in float; results are in double. Output: ppo_golden.h beside
this file, the same bytes every time.
"""
import math
import os


class Lcg:
    """Knuth's MMIX generator."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def real(self, low, high):
        return (round(low * 1024) + self.below(round((high - low) * 1024) + 1)) / 1024


# Schulman, "Approximating KL divergence": r = q/p with r = reference/policy at a token that the policy drew.
def kl_estimate(kind, logp, logref):
    log_r = logref - logp
    return {"k1": -log_r, "k2": log_r**2 / 2, "k3": math.exp(log_r) - 1 - log_r}[kind]


def whiten(values, mask, keep_mean):
    chosen = [v for v, m in zip(values, mask) if m]
    mean = math.fsum(chosen) / len(chosen)
    variance = math.fsum((v - mean) ** 2 for v in chosen) / len(chosen)
    return [(v - mean) / math.sqrt(variance + 1e-8) + (mean if keep_mean else 0) if m else v for v, m in zip(values, mask)]


# Schulman et al. 2016, eq. 16, as the sum it is: A_t = sum_l (gamma lambda)^l delta_{t+l}
def gae(rewards, values, gamma, lam):
    n = len(rewards)
    delta = [rewards[t] + (gamma * values[t + 1] if t + 1 < n else 0) - values[t] for t in range(n)]
    return [math.fsum((gamma * lam) ** (l - t) * delta[l] for l in range(t, n)) for t in range(n)]


def group_advantage(kind, totals):
    n = len(totals)
    mean = math.fsum(totals) / n
    if kind == "group_mean":  # Liu et al. 2025: no division
        return [r - mean for r in totals]
    if kind == "group":  # Shao et al. 2024, section 4.1.2; sample deviation, 1e-4 as in TRL
        std = math.sqrt(math.fsum((r - mean) ** 2 for r in totals) / (n - 1))
        return [(r - mean) / (std + 1e-4) for r in totals]
    return [r - math.fsum(totals[:i] + totals[i + 1:]) / (n - 1) for i, r in enumerate(totals)]  # Ahmadian et al. 2024, eq. 5


# Schulman et al. 2017, eq. 7, with DAPO's upper bound; Ye et al. 2020, eq. 6 for A < 0. To be minimised.
def policy_loss(c, logp, old, ref, advantage):
    ratio = math.exp(logp - old)
    high = c["clip_high"] or c["clip"]
    objective = min(ratio * advantage, min(max(ratio, 1 - c["clip"]), 1 + high) * advantage)
    if c["dual_clip"] and advantage < 0:
        objective = max(objective, c["dual_clip"] * advantage)
    penalty = c["kl_coef"] * kl_estimate(c["kl_estimator"], logp, ref) if c["kl_in"] == "loss" else 0
    return -objective + penalty, ratio


def value_loss(clip, value, old, returns):
    squares = [(value - returns) ** 2]
    if clip:
        squares.append((old + min(max(value - old, -clip), clip) - returns) ** 2)
    return max(squares) / 2


# Ziegler et al. 2019, section 2.2
def adapt(coef, kl, target, horizon, episodes):
    error = min(max((kl - target) / target, -0.2), 0.2)
    return coef + coef * error * episodes / horizon


# Fedus et al. 2021 (Switch), eq. 4, with f summing to K, mean over layers; gradient by one row's probability.
def balance_gradient(counts, chosen, coef, rows):
    layers, experts = len(counts), len(counts[0])

    def loss(layer, expert, more):
        """Mean probability of `expert` in `layer` raised by more/rows; everything else is linear and drops out."""
        f = counts[layer][expert] * chosen / sum(counts[layer])
        return coef * experts * f * (0.5 + more / rows) / layers

    return [[loss(l, e, 0.5) - loss(l, e, -0.5) for e in range(experts)] for l in range(layers)]


BASE = {"eos_rule": "none", "eos_penalty": 0.0, "score_at": "last", "kl_in": "reward", "kl_estimator": "k1", "kl_coef": 0.125,
        "whiten_rewards": "none", "whiten_advantages": "none", "advantage": "gae", "gamma": 1.0, "lambda": 0.95, "max_new": 6}
CASES = [
    ("plain", (2, 3), {}),
    ("replace, after the end", (3, 2), {"eos_rule": "replace", "eos_penalty": 1.5, "score_at": "eos_plus_one", "kl_estimator": "k2", "gamma": 0.9}),
    ("subtract, k3, whitened with mean", (2, 10), {"eos_rule": "subtract", "eos_penalty": 0.75, "kl_estimator": "k3", "whiten_rewards": "keep_mean"}),
    ("all whitened, after the end", (3, 4), {"score_at": "eos_plus_one", "whiten_rewards": "full", "whiten_advantages": "batch", "lambda": 0.5}),
    ("divergence in the loss", (2, 3), {"kl_in": "loss", "kl_estimator": "k3", "whiten_advantages": "batch", "lambda": 1.0}),
    ("lambda 0", (1, 2), {"lambda": 0.0, "gamma": 0.5, "eos_rule": "replace", "eos_penalty": 0.0}),
    ("group", (3, 5), {"advantage": "group", "kl_in": "loss"}),
    ("group with divergence, whitened", (2, 6), {"advantage": "group", "whiten_advantages": "batch", "kl_estimator": "k2"}),
    ("group_mean", (2, 3), {"advantage": "group_mean", "eos_rule": "subtract", "eos_penalty": 2.0}),
    ("leave_one_out", (2, 4), {"advantage": "leave_one_out", "score_at": "eos_plus_one"}),
    ("pairs", (4, 2), {"advantage": "leave_one_out", "kl_in": "loss"}),
]


def make_case(name, size, changes, random):
    c = dict(BASE, **changes)
    groups, g = size
    n = groups * g
    lengths = [random.below(c["max_new"] + 1) for _ in range(n)]
    lengths[0], lengths[-1] = c["max_new"], 1
    if n > 2:
        lengths[1] = 0
    finish = [2 if k == c["max_new"] and random.below(2) else random.below(2) for k in lengths]  # end, stop, length
    finish[0] = 2
    rewards = [random.real(-2, 2) for _ in range(n)]
    out = {"name": name, "c": c, "groups": groups, "size": g, "length": lengths, "finish": finish, "given": rewards}
    first, chosen, old, ref, value, kl, score, reward = [0], [], [], [], [], [], [], []
    for s in range(n):
        extra = c["score_at"] == "eos_plus_one" and 0 < lengths[s] < c["max_new"]
        logp, logref = ([random.real(-4, -0.0625) for _ in range(lengths[s])] for _ in range(2))
        r = rewards[s]
        if finish[s] == 2:
            r = {"none": r, "replace": -c["eos_penalty"], "subtract": r - c["eos_penalty"]}[c["eos_rule"]]
        divergence = [kl_estimate(c["kl_estimator"], a, b) for a, b in zip(logp, logref)] + [0.0] * extra
        token = [-c["kl_coef"] * k if c["kl_in"] == "reward" else 0.0 for k in divergence]
        if token:
            token[-1] += r
        entries = lengths[s] + extra
        first.append(first[-1] + entries)
        chosen += [1] * lengths[s] + [0] * extra
        old += logp + [0.0] * extra
        ref += logref + [0.0] * extra
        value += [random.real(-1, 1) for _ in range(entries)]
        kl += divergence
        score.append(r)
        reward += token
    if c["whiten_rewards"] != "none":
        reward = whiten(reward, [1] * len(reward), c["whiten_rewards"] == "keep_mean")
    advantage, returns = [], []
    for k in range(groups):
        spans = [(first[s], first[s + 1]) for s in range(k * g, (k + 1) * g)]
        totals = [math.fsum(reward[a:b]) for a, b in spans]
        shared = group_advantage(c["advantage"], totals) if c["advantage"] != "gae" else None
        for i, (a, b) in enumerate(spans):
            if shared:
                advantage += [shared[i]] * (b - a)
                returns += [totals[i]] * (b - a)
            else:
                own = gae(reward[a:b], value[a:b], c["gamma"], c["lambda"])
                advantage += own
                returns += [x + v for x, v in zip(own, value[a:b])]
    if c["whiten_advantages"] == "batch":
        advantage = whiten(advantage, chosen, False)
    out.update(first=first, chosen=chosen, old=old, ref=ref, value=value, kl=kl, score=score, reward=reward, advantage=advantage, returns=returns)
    return out


def numbers(values):
    return ", ".join("%d" % v if isinstance(v, int) else repr(float(v)) for v in values) or "0"


class Header:
    def __init__(self):
        self.lines = []

    def array(self, kind, name, values):
        text = "static const %s %s[] = {" % (kind, name)
        line = text
        for item in numbers(values).split(", "):
            if len(line) + len(item) > 156:
                self.lines.append(line.rstrip())
                line = "\t"
            line += item + ", "
        self.lines.append(line.rstrip(", ") + "};")

    def add(self, text):
        self.lines.append(text)


def write_cases(h, random):
    rows = []
    for i, (name, size, changes) in enumerate(CASES):
        k = make_case(name, size, changes, random)
        kinds = {"length": "uint32_t", "finish": "uint8_t", "given": "float", "first": "int64_t", "chosen": "uint8_t", "old": "float", "ref": "float",
                 "value": "float", "kl": "double", "score": "double", "reward": "double", "advantage": "double", "returns": "double"}
        for field, kind in kinds.items():
            h.array(kind, "case%d_%s" % (i, field), k[field])
        c = k["c"]
        settings = ", ".join('.%s = "%s"' % (key, v) if isinstance(v, str) else ".%s = %r" % (key, v) for key, v in c.items())
        rows.append('\t{.name = "%s", %s,\n\t .groups = %d, .size = %d, %s},' % (
            name, settings, k["groups"], k["size"], ", ".join(".%s = case%d_%s" % (f, i, f) for f in kinds)))
    h.add("static const struct golden_case golden_cases[] = {")
    h.lines += rows
    h.add("};")


def write_losses(h, random):
    h.add("static const struct golden_setting golden_settings[] = {")
    points, index = [], 0
    for kind in ("reward", "loss"):
        for clip, high, dual in ((0.25, 0.0, 0.0), (0.25, 0.5, 0.0), (0.25, 0.0, 3.0), (0.125, 0.375, 1.5)):
            for estimator in ("k1", "k2", "k3"):
                c = {"clip": clip, "clip_high": high, "dual_clip": dual, "kl_in": kind, "kl_estimator": estimator, "kl_coef": 0.0625}
                h.add('\t{%r, %r, %r, "%s", "%s", %r},' % (clip, high, dual, kind, estimator, c["kl_coef"]))
                for spread in (0.25, 2.5, 2.5):
                    for sign in (1, -1):
                        old, ref = random.real(-3, -0.5), random.real(-3, -0.5)
                        logp = old + random.real(-spread, spread)
                        advantage = sign * random.real(0.125, 2)
                        points += [float(index), logp, old, ref, advantage, *policy_loss(c, logp, old, ref, advantage)]
                index += 1
    h.add("};")
    h.add("/* setting, log-probability, old, reference, advantage, loss, ratio */")
    h.array("double", "golden_policy", points)
    points = []
    for clip in (0.0, 0.25):
        for _ in range(16):
            old, returns = random.real(-1, 1), random.real(-1, 1)
            value = old + random.real(-1.5, 1.5)
            points += [clip, value, old, returns, value_loss(clip, value, old, returns)]
    h.add("/* clip, value, old, returns, loss */")
    h.array("double", "golden_value", points)


def write_rest(h, random):
    h.add("/* divergence, coefficient from 0.15 by target 6, horizon 10000, 640 completions */")
    h.array("double", "golden_adapt", sum(([kl, adapt(0.15, kl, 6.0, 10000.0, 640.0)] for kl in (0.0, 3.0, 5.5, 6.0, 6.5, 7.5, 100.0)), []))
    x = [random.real(-3, 3) for _ in range(17)]
    mask = [1 if random.below(3) else 0 for _ in x]
    h.array("float", "golden_whiten_in", x)
    h.array("uint8_t", "golden_whiten_mask", mask)
    for name, m, keep in (("masked", mask, False), ("masked_mean", mask, True), ("all", [1] * 17, False), ("all_mean", [1] * 17, True)):
        h.array("double", "golden_whiten_" + name, whiten(x, m, keep))
    counts = [[random.below(40) for _ in range(5)] for _ in range(3)]
    counts[1][2] = 0
    counts = [[v * 2 for v in layer] for layer in counts]
    h.array("int64_t", "golden_balance_counts", sum(counts, []))
    h.array("double", "golden_balance", sum(balance_gradient(counts, 2, 0.0625, 77), []))


DECLARATIONS = """/* Made by ppo_golden.py beside it; not to be edited. */
#ifndef TENFOLD_TESTS_PPO_GOLDEN_H
#define TENFOLD_TESTS_PPO_GOLDEN_H

#include <stdint.h>

struct golden_case {
	const char *name, *eos_rule, *score_at, *kl_in, *kl_estimator, *whiten_rewards, *whiten_advantages, *advantage_kind;
	double eos_penalty, kl_coef, gamma, lambda;
	int64_t max_new, groups, size;
	const uint32_t *length;
	const uint8_t *finish, *chosen;
	const float *given, *old, *ref, *value; /* given: the groups' rewards; the others by entry */
	const int64_t *first;
	const double *kl, *score, *reward, *advantage, *returns;
};
struct golden_setting {
	double clip, clip_high, dual_clip;
	const char *kl_in, *kl_estimator;
	double kl_coef;
};
"""


def main():
    random, h = Lcg(20), Header()
    h.add(DECLARATIONS)
    write_cases(h, random)
    write_losses(h, random)
    write_rest(h, random)
    h.add("\n#endif")
    # the setting and the result have one name in the papers, not in C
    text = "\n".join(h.lines).replace('.advantage = "', '.advantage_kind = "') + "\n"
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ppo_golden.h"), "w", encoding="utf-8") as f:
        f.write(text)


main()
