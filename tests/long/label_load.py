"""Twenty people label at once while a reader polls labels.db and the owner's page refreshes: answers a second, latency, refusals.

    TENFOLD=build/app/tenfold python3 tests/long/label_load.py [--people N] [--seconds S] [--think S]

Fails when an answer is refused, when the reader meets a lock, when labels are lost, or when the 99th percentile of an answer's
time is 100 ms or more.
"""
import argparse
import os
import sqlite3
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from label_kit import Server, item  # noqa: E402

options = argparse.ArgumentParser()
options.add_argument("--people", type=int, default=20)
options.add_argument("--seconds", type=float, default=30)
options.add_argument("--think", type=float, default=4, help="seconds between an answer and the next question")
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


def read():
    polls = 0
    while not stop.is_set():
        try:
            db = sqlite3.connect("file:%s?mode=ro" % os.path.join(server.folder, "labels.db"), uri=True, timeout=0)
            db.execute("SELECT count(*), max(event) FROM labels").fetchone()
            db.close()
            polls += 1
        except sqlite3.Error as why:
            problems.append("reader: %s" % why)
        server.as_owner().ok("GET", "/api/owner/people")
        time.sleep(0.1)
    print("reader: %d polls" % polls)


try:
    people = [server.person("P%d" % k) for k in range(options.people)]
    threads = [threading.Thread(target=label, args=(p,)) for p in people] + [threading.Thread(target=read)]
    began = time.perf_counter()
    for t in threads:
        t.start()
    time.sleep(options.seconds)
    stop.set()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - began
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
