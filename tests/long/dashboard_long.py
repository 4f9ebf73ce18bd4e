"""How long the dashboard takes on a long run: the record of a smoke run, its steps repeated until there are 10,000 of metrics and a
thousand of groups. Prints each question with its time; fails when the newest steps, a group or a page of hits take more than half a second.

TENFOLD: the program. TENFOLD_SOURCE: the project's folder.
"""
import os
import shutil
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from label_kit import Server  # noqa: E402
from run_kit import CONFIG, tenfold  # noqa: E402

METRIC_STEPS, GROUP_STEPS = 10000, 1000

folder = tempfile.mkdtemp(prefix="tenfold-long-")
done = tenfold("run", CONFIG, "--out", os.path.join(folder, "long"), "--set", "run.stages=sft, ppo", "--set", "ppo.prompts=64")
if done.status:
    sys.exit(done.err)
with sqlite3.connect(os.path.join(folder, "long", "run.db")) as db:
    steps = db.execute("SELECT count(*) FROM steps WHERE stage='ppo'").fetchone()[0]
    columns = {t: [r[1] for r in db.execute("PRAGMA table_info(%s)" % t)] for t in ("metrics", "steps", "groups", "candidates", "scores", "comparisons", "reference_logprobs")}
    for table, names in columns.items():
        db.execute("CREATE TEMP TABLE kept_%s AS SELECT * FROM %s WHERE stage='ppo'" % (table, table))
        for k in range(1, (METRIC_STEPS if table == "metrics" else GROUP_STEPS) // steps):
            db.execute("INSERT INTO %s SELECT %s FROM kept_%s" % (table, ", ".join("step + %d" % (k * steps) if n == "step" else n for n in names), table))
    counts = [db.execute("SELECT count(*) FROM " + t).fetchone()[0] for t in ("metrics", "candidates")]
    last = db.execute("SELECT max(step) FROM metrics WHERE stage='ppo'").fetchone()[0]
    word = db.execute("SELECT substr(text, 1, 3) FROM candidates WHERE length(text) > 9 ORDER BY rowid DESC").fetchone()[0]
db.close()
print("%d metrics, %d candidates, %.0f MB" % (*counts, os.path.getsize(os.path.join(folder, "long", "run.db")) / 1e6))
server = Server([], folder=folder)
failed = 0
try:
    for path, limit in (("/api/runs", 0.5), ("/api/runs/curves?run=long", 30), ("/api/runs/curves?run=long&from=%d" % (last - 5), 0.5), ("/api/runs/experts?run=long", 30),
                        ("/api/runs/step?run=long&step=900", 0.5), ("/api/runs/group?run=long&step=900&slot=4", 0.5), ("/api/runs/tokens?run=long&step=900&slot=4&candidate=0", 0.5),
                        ("/api/runs/search?run=long&q=" + "".join("%%%02x" % c for c in word.encode()), 0.5), ("/api/runs/search?run=long&q=noneofthemhasthis", 3)):
        began = time.monotonic()
        reply = server.as_owner().ask("GET", path)
        took = time.monotonic() - began
        print("%-60s %9d bytes %7.3f s" % (path, len(reply.body), took))
        failed += reply.status != 200 or took > limit
finally:
    server.close()
sys.exit(1 if failed else 0)
