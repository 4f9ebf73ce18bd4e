"""Twenty people label at once while a reader polls labels.db and the owner's page refreshes: answers a second, latency, refusals.

    TENFOLD=build/app/tenfold python3 tests/long/label_load.py [--people N] [--seconds S] [--think S] [--train] [--idle N]

--train: a run of PPO trains meanwhile (configs/smoke.yaml, more steps). --idle: so many sockets are opened that say nothing.
Fails when an answer is refused, when the reader meets a lock, when labels are lost, or when the 99th percentile of an answer's
time is 100 ms or more.
"""
import argparse
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from label_kit import PROGRAM, Client, Server, item  # noqa: E402

options = argparse.ArgumentParser()
options.add_argument("--people", type=int, default=20)
options.add_argument("--seconds", type=float, default=30)
options.add_argument("--think", type=float, default=4, help="seconds between an answer and the next question")
options.add_argument("--train", action="store_true", help="a learner trains meanwhile")
options.add_argument("--idle", type=int, default=0, help="sockets that are opened and say nothing")
options = options.parse_args()
server = Server([("Load", [item(i) for i in range(400)], ["--set", "labels_each=3"])])
took = {"answer": [], "next": []}
problems, stop, lock = [], threading.Event(), threading.Lock()
given = 0


def timed(name, person, *arguments):
    began = time.perf_counter()
    answer = person.ask(*arguments)
    with lock:
        took[name].append(time.perf_counter() - began)
        if answer.status != 200:
            problems.append("%s: %d %s" % (name, answer.status, answer.body[:200]))
    return answer.json()


class Training:
    """A run of PPO from its first step on."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tenfold-load-")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        self.process = subprocess.Popen([PROGRAM, "run", os.path.join(source, "configs", "smoke.yaml"), "--out", os.path.join(self.folder, "run"), "--set", "ppo.steps=100000",
                                         "--set", "ppo.eval_every=0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.process.poll() is None and not self.steps():
            time.sleep(0.2)

    def steps(self):
        try:
            db = sqlite3.connect("file:%s?mode=ro" % os.path.join(self.folder, "run", "run.db"), uri=True)
            n = db.execute("SELECT count(DISTINCT step) FROM groups WHERE stage = 'ppo'").fetchone()[0]
            db.close()
            return n
        except sqlite3.Error:
            return 0

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        shutil.rmtree(self.folder)


def open_idle(n):
    """Sockets that connect, or try to, and say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, n + 1000), hard))
    idle = []
    for _ in range(n):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", server.port))
        idle.append(s)
    return idle


def label(person):
    global given
    stop.wait(options.think * int(people.index(person)) / len(people))
    while not stop.is_set():
        n = timed("next", person, "GET", "/api/campaigns/1/next")
        if n.get("state") != "ask":
            return
        ask = n["ask"]
        count = len(ask["shown"])
        ranks = {"duel": [1, 2], "best_worst": [1, 2, 2, 3][:count], "order": list(range(1, count + 1))}[ask["kind"]]
        if ask["kind"] == "best_worst" and count == 3:
            ranks = [1, 2, 3]
        timed("answer", person, "POST", "/api/asks/%d/answer" % ask["ask"],
              {"key": uuid.uuid4().hex, "outcome": "ranked", "ranks": ranks, "strength": 0, "visible_ms": 1000, "guidelines": 1, "page": "load"})
        with lock:
            given += 1
        stop.wait(options.think)


def arrive():
    """How long somebody who has no connection yet waits to be served, at worst."""
    worst = 0
    while not stop.is_set():
        began = time.perf_counter()
        try:
            Client(server).ok("GET", "/api/session")
        except OSError as why:
            problems.append("a newcomer: %s" % why)
        worst = max(worst, time.perf_counter() - began)
        stop.wait(0.5)
    print("newcomers: served after %.1f s at most" % worst)


def read():
    polls = 0
    owner = server.as_owner()
    while not stop.is_set():
        try:
            db = sqlite3.connect("file:%s?mode=ro" % os.path.join(server.folder, "labels.db"), uri=True, timeout=0)
            db.execute("SELECT count(*), max(event) FROM labels").fetchone()
            db.close()
            polls += 1
        except sqlite3.Error as why:
            problems.append("reader: %s" % why)
        owner.ok("GET", "/api/owner/people")
        time.sleep(0.1)
    print("reader: %d polls" % polls)


try:
    server.owner = Client(server, keep=True).login(server.link)
    people = [server.person("P%d" % k, keep=True) for k in range(options.people)]
    training = Training() if options.train else None
    threads = [threading.Thread(target=label, args=(p,)) for p in people] + [threading.Thread(target=read), threading.Thread(target=arrive)]
    began = time.perf_counter()
    for t in threads:
        t.start()
    idle = open_idle(options.idle)
    steps = training.steps() if training else 0
    time.sleep(options.seconds)
    stop.set()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - began
    if training:
        print("training: %d steps meanwhile" % (training.steps() - steps))
        training.end()
    for s in idle:
        s.close()
    counted = server.as_owner().ok("GET", "/api/owner/campaigns")["campaigns"][0]["labels"]
    if counted != given:
        problems.append("%d labels for %d answers" % (counted, given))
    for name, all_of_them in took.items():
        ordered = sorted(all_of_them)
        at = lambda share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        print("%s: %d, %.0f a second, median %.1f ms, p99 %.1f ms, worst %.1f ms" % (name, len(ordered), len(ordered) / seconds, at(0.5), at(0.99), at(1)))
        if at(0.99) >= 100:
            problems.append("p99 of %s is %.0f ms" % (name, at(0.99)))
finally:
    server.close()
for problem in problems[:10]:
    print("FAILED " + problem)
sys.exit(1 if problems else 0)
