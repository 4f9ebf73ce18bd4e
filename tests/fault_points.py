"""kill -9 at every named fault point of real runs; each run then has to end with the digest of the undisturbed one.

A point is a place between two things that belong together (core/base/fault.h; `tenfold faults` lists them). The scenarios
are small runs that together pass all of them. Each runs undisturbed first, for its digest and to note which points it
passes. Then, point by point, the first scenario that passes it runs again; whichever process reaches the point
first (learner, worker, service, a stage, `tenfold run` itself) is killed there, once, and started again or resumed.

    TENFOLD=build-faults/app/tenfold python3 tests/fault_points.py [--nth N]... [NAME|PREFIX*]...

Without names: all points, and a point that no scenario passes is a failure. The last line is "N of N points hit".
"""
import argparse
import collections
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import run_kit
from run_kit import CONFIG, PROGRAM, SOURCE, sets, tenfold

LIMIT = 120  # seconds for one run, with all its resumptions
SMALL = {"sft.steps": 6, "sft.optim.warmup": 2, "fit.optim.warmup": 1, "ppo.optim.warmup": 1, "sft.eval_every": 2, "sft.batch": 20, "ppo.steps": 4, "ppo.prompts": 4, "ppo.gradient_block": 2, "ppo.micro_batch": 2,
         "ppo.checkpoint_every": 1, "ppo.eval_every": 2, "rollout.batch_groups": 4, "rollout.lease_seconds": 5, "rollout.set_aside": 0, "reward.timeout_seconds": 1,
         "eval.tasks": 16, "eval.best_of": 2, "collect.prompts": 24, "collect.step_groups": 8, "fit.batch": 8, "fit.reference": 32,
         "task.train": 64, "task.heldout": 32, "task.supervised": 64}


class Failure(Exception):
    pass


def children_gone(folder):
    """The processes of a killed `tenfold run` end by themselves; a resumed one would find the folder in use."""
    until = time.monotonic() + 30
    word = os.fsencode(folder)
    while time.monotonic() < until:
        alive = False
        for entry in os.listdir("/proc"):
            try:
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    alive = alive or (entry.isdigit() and int(entry) != os.getpid() and word in f.read().split(b"\0"))
            except (OSError, ValueError):
                continue
        if not alive:
            return
        time.sleep(0.05)
    raise Failure("processes of %s do not end" % folder)


class Scenario:
    last_choice = False  # only for points that no other scenario passes

    def __init__(self, name, work, **changes):
        self.name, self.work = name, work
        self.sets = sets({**SMALL, **changes})
        self.digest = None

    def start(self, folder, resume, env):
        with open(folder + ".stderr", "a") as log:
            return subprocess.Popen([PROGRAM, "run", CONFIG, "--out", folder, *(["--resume"] if resume else []), *self.sets], stdout=subprocess.DEVNULL,
                                    stderr=log, env={**os.environ, **env})

    def first(self, folder, env):
        """The first start; its exit status."""
        return self.start(folder, False, env).wait(LIMIT)

    def run(self, folder, env):
        """Runs to the end, resuming what was killed. Returns the roles that were killed."""
        killed = []
        try:
            status = self.first(folder, env)
            for _ in range(3):
                if status == -signal.SIGKILL:
                    killed.append("run")
                children_gone(folder)
                if status == 0 and not self.unfinished(folder):
                    break
                status = self.start(folder, os.path.exists(os.path.join(folder, "run.db")), env).wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise Failure("%s: still running after %d s:\n%s" % (self.name, LIMIT, self.said(folder)))
        if status != 0:
            raise Failure("%s ended with status %d:\n%s" % (self.name, status, self.said(folder)))
        return killed + re.findall(r"run: (\S+) was killed by signal 9", self.said(folder))

    @staticmethod
    def said(folder):
        with open(folder + ".stderr", errors="replace") as f:
            return f.read()

    @staticmethod
    def unfinished(folder):
        try:
            with open(os.path.join(folder, "summary.json")) as f:
                return "digest" not in json.load(f)
        except FileNotFoundError:
            return True

    def prepare(self):
        """The digest of the undisturbed run, and the points that it passes."""
        folder = os.path.join(self.work, self.name)
        noted = folder + ".points"
        self.run(folder, {"TENFOLD_FAULT_LOG": noted})
        self.digest = tenfold("digest", folder).out.strip()
        with open(noted) as f:
            self.points = {line.split()[1] for line in f if line.startswith("pass ")}
        return folder

    def kill_at(self, name, nth):
        """One run in which the first process at the nth passage of the point dies. Returns who died; None: nobody passes so often."""
        folder = os.path.join(self.work, "%s-%s-%d" % (self.name, name, nth))
        noted = folder + ".points"
        env = {"TENFOLD_FAULT": "%s:%d:kill" % (name, nth), "TENFOLD_FAULT_LOG": noted, "TENFOLD_FAULT_ONCE": folder + ".once"}
        roles = self.run(folder, env)
        with open(noted) as f:
            hit = "kill %s\n" % name in f.readlines()
        digest = tenfold("digest", folder).out.strip()
        if digest != self.digest:
            raise Failure("%s, killed at %s:\n%s" % (self.name, name, tenfold("diff", os.path.join(self.work, self.name), folder).out))
        shutil.rmtree(folder)
        return ("+".join(roles) or "one ending") if hit else None  # `run` does not tell of those that die while it stops them


class Stopped(Scenario):
    """Ctrl-C in the middle, then --resume: what only a clean stop and a resumption pass."""

    def __init__(self, name, work, ready, **changes):
        super().__init__(name, work, **changes)
        self.ready = ready

    def first(self, folder, env):
        p = self.start(folder, False, env)
        until = time.monotonic() + LIMIT
        while p.poll() is None and not self.ready(folder):
            if time.monotonic() > until:
                raise Failure("%s: the middle does not come:\n%s" % (self.name, self.said(folder)))
            time.sleep(0.002)
        if p.poll() is None:
            p.send_signal(signal.SIGINT)
        return p.wait(LIMIT)

    def prepare(self):
        calm = Scenario(self.name + "-calm", self.work)
        calm.sets = self.sets
        calm.prepare()
        super().prepare()
        if self.digest != calm.digest:
            raise Failure("%s: a stopped and resumed run has another digest than one that was not stopped" % self.name)


def two_steps(folder):
    return len(run_kit.RunTest.metrics(folder)) >= 2


def supervised_checkpoint(folder):
    try:
        return any(name.startswith("step-") for name in os.listdir(os.path.join(folder, "checkpoints", "sft")))
    except FileNotFoundError:
        return False


def start_scenario(work):
    """Makes the model that the others start from."""
    made = Scenario("supervised", work, **{"run.stages": "sft"})
    made.last_choice = True  # so that workers, not the measure after the training, are killed while they generate
    return made


def command_scenario(work):
    model = os.path.join(work, "supervised", "models", "sft")
    command = "%s %s" % (sys.executable, os.path.join(SOURCE, "examples", "score.py"))
    return Scenario("command", work, **{"run.stages": "ppo", "model.init": model, "reward.terms": "command:1", "reward.command": command})


class Live(Scenario):
    """A reward model that follows the labels of a simulated crowd while PPO runs."""

    def __init__(self, name, work):
        self.labels = os.path.join(work, "labels.db")
        super().__init__(name, work, **{"run.stages": "sft, collect, fit-reward, ppo", "fit.labels": self.labels, "fit.loss": "answers", "fit.ensemble": 1,
                                        "reward.terms": "model:1", "reward.live": "true", "reward.live_every": 2})

    def prepare(self):
        sampled = os.path.join(self.work, self.name + "-sampled")
        for arguments in (("run", CONFIG, "--out", sampled, *sets({**SMALL, "run.stages": "sft, collect"})),
                          ("crowd", "label", "--file", self.labels, "--from", sampled, "--prompts", "20", "--truth", "shorter")):
            done = tenfold(*arguments)
            if done.status != 0:
                raise Failure("%s: %s" % (" ".join(arguments), done.err))
        super().prepare()


def scenarios(work):
    ppo = {"run.stages": "ppo", "model.init": os.path.join(work, "supervised", "models", "sft")}
    return [
        start_scenario(work),
        command_scenario(work),
        Scenario("overlap", work, **ppo, **{"ppo.lag": 1, "rollout.fetch_weights": "true"}),
        Stopped("stopped", work, two_steps, **ppo, **{"ppo.steps": 8, "ppo.eval_every": 0}),
        Stopped("stopped-sft", work, supervised_checkpoint, **{"run.stages": "sft", "sft.steps": 12}),
        Scenario("whole", work, **{"run.stages": "sft, collect, fit-reward, ppo, eval"}),
        Live("live", work),
    ]


def described():
    """The fault points of the program; ends with 77 (skipped) when it has none."""
    done = tenfold("faults", "--json")
    if done.status != 0:
        print("skipped: " + done.err.strip())
        sys.exit(77)
    return json.loads(done.out)


def listed():
    # those of labels.db are passed by `tenfold web`, which no run starts: test_label_http.py kills at each of them
    return [p["name"] for p in described() if not p["name"].startswith("labels.")]


def choose(points, patterns):
    chosen = [p for p in points if not patterns or any(fnmatch.fnmatchcase(p, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not fnmatch.filter(points, pattern):
            sys.exit("there is no fault point %s (`tenfold faults` lists them)" % pattern)
    return chosen


def kill_everywhere(points, passages=(1,), make=scenarios):
    """Kills at each point, in the first scenario that passes it; a line for each. Returns the number of points killed at."""
    work = tempfile.mkdtemp(prefix="tenfold-faults-")
    left, kills, roles = list(points), 0, collections.Counter()
    try:
        all_of_them = make(work)
        for scenario in all_of_them:
            scenario.prepare()
        for scenario in sorted(all_of_them, key=lambda s: s.last_choice):
            for name in [p for p in left if p in scenario.points]:
                for nth in passages:
                    began = time.monotonic()
                    who = scenario.kill_at(name, nth)
                    if who is None and nth == 1:
                        raise Failure("%s passes %s, but nobody was killed there" % (scenario.name, name))
                    if who is None:
                        break
                    kills += 1
                    roles[re.sub(r"-\d+", "", who)] += 1
                    print("%-28s passage %d  killed %-10s in %-11s same digest  %.1f s" % (name, nth, who, scenario.name, time.monotonic() - began), flush=True)
                left.remove(name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for name in left:
        print("%-28s NOT REACHED by any scenario" % name)
    print("kills by role: " + ", ".join("%s %d" % r for r in roles.most_common()))
    print("%d of %d points hit, %d kills, every run with the digest of the undisturbed one" % (len(points) - len(left), len(points), kills), flush=True)
    return len(points) - len(left)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--nth", type=int, action="append", help="kill at this passage of a process; may be repeated; default 1")
    o = p.parse_args()
    points = choose(listed(), o.names)
    try:
        hit = kill_everywhere(points, sorted(o.nth or [1]))
    except Failure as e:
        sys.exit("FAILED: %s" % e)
    sys.exit(0 if hit == len(points) else 1)


if __name__ == "__main__":
    main()
