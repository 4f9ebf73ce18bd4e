"""tenfold label export and import: a round trip loses nothing, formulas are neutral, other programs' files are read."""
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid

from label_kit import PROGRAM, Server, item

failures = []
SHARED = os.path.join(os.environ.get("TENFOLD_SOURCE", "."), "..", "shared", "data", "hh_rlhf_harmless_test", "test.jsonl.gz")


def expect(what, got, wanted):
    if got != wanted:
        failures.append("%s: %r instead of %r" % (what, str(got)[:400], str(wanted)[:400]))


def run(*arguments, status=0):
    done = subprocess.run([PROGRAM, "label", *arguments], capture_output=True, text=True)
    if done.returncode != status:
        sys.exit("tenfold label %s: %d %s" % (" ".join(arguments), done.returncode, done.stderr))
    return done.stdout if status == 0 else done.stderr


def export(folder, form, name):
    return run("export", folder, "--name", name, "--format", form)


def label_all(server):
    """Every outcome, several people, an undone answer, words, a repeat."""
    outcomes = ["ranked", "ranked", "ranked", "ranked", "ranked", "ranked", "tie", "all_bad", "skip", "cannot_rank", "flag"]
    for number, name in enumerate(("Ann", "Ben")):
        person = server.person(name)
        for step in range(200):
            n = person.ok("GET", "/api/campaigns/1/next")
            if n["state"] != "ask":
                break
            ask = n["ask"]
            count, kind, outcome = len(ask["shown"]), ask["kind"], outcomes[step % len(outcomes)]
            ranks = [1] * count if outcome == "tie" else [] if outcome != "ranked" else [2, 1] if kind == "duel" else [3, 2, 2, 1] if kind == "best_worst" and count == 4 \
                else [1, 2, 3] if kind == "best_worst" else list(range(count, 0, -1))
            reply = person.ok("POST", "/api/asks/%d/answer" % ask["ask"], {
                "key": uuid.uuid4().hex, "outcome": outcome, "ranks": ranks, "strength": 1 + step % 3 if kind == "duel" and outcome == "ranked" else 0, "visible_ms": 1000 + step,
                "guidelines": 1, "page": "t", "reason": "=1+1 \"why\"" if outcome == "flag" or step % 5 == 0 else "", "correction": "better\nso" if step % 7 == 0 else ""})
            if step == 3:
                person.ok("POST", "/api/events/%d/undo" % reply["event"], {"key": uuid.uuid4().hex})


items = [item(i, 10, 80) for i in range(2)] + [item(2, 5, 20, language="en", source_row={"id": 7})] + \
    [{"prompt": "=cmd|' /C calc'!A0", "candidates": [{"text": t, "test": "ok"} for t in ("+1", "-1", "@x", "'quoted", "plain \"q\", \u00e9\n")]},
     {"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Keys?"}], "candidates": ["on the table", "in the door"]}]
server = Server([("Round", items, ["--set", "labels_each=2", "--set", "gold=0", "--set", "repeats=0.5", "--set", "other_design=0.3", "--set", "seed=4"])])
folder = tempfile.mkdtemp(prefix="tenfold-formats-")
try:
    label_all(server)
    whole = export(server.folder, "jsonl", "Round")  # while the server runs
    records = [json.loads(line) for line in whole.splitlines()]
    expect("prompts", len(records), len(items))
    expect("what was in the file is there", (records[2]["source_row"], records[2]["language"], records[3]["candidates"][0]["test"], records[4]["prompt"][1]["role"]), ({"id": 7}, "en", "ok", "assistant"))
    labels = [l for r in records for l in r["labels"]]
    expect("outcomes", {l["outcome"] for l in labels}, {"ranked", "tie", "all_bad", "skip", "cannot_rank", "flag"})
    expect("names stay here", "Ann" in whole, False)
    server.stop()
    # round trips: by jsonl, by label-studio and argilla (which hold the same), and pairs by pairs
    for form in ("jsonl", "label-studio", "argilla"):
        path = os.path.join(folder, form)
        with open(path, "w", encoding="utf-8") as f:
            f.write(export(server.folder, form, "Round"))
        run("import", folder, "--name", form, "--from", path, "--format", form)
        expect("round trip by " + form, export(folder, "jsonl", form), whole)
        expect("once more by " + form, export(folder, form, form), export(server.folder, form, "Round"))
    for form in ("csv", "trl", "trl-chat", "hh"):
        path = os.path.join(folder, form)
        first = export(server.folder, form, "Round")
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(first)
        run("import", folder, "--name", form, "--from", path, "--format", form.split("-")[0])
        again = export(folder, form, form)
        expect(form + ": the same lines", again, first)
    table = export(server.folder, "csv", "Round")
    expect("formulas", [c for c in ('"=cmd', '"+1"', '"-1"', '"@x"') if c in table], [])
    expect("neutral", "\"'=cmd|' /C calc'!A0\"" in table and "\"'+1\"" in table, True)
    # files of others
    with open(os.path.join(folder, "ls.json"), "w", encoding="utf-8") as f:
        json.dump([{"id": 1, "data": {"prompt": "p", "answer1": "a", "answer2": "b"}, "annotations": [
            {"completed_by": 3, "result": [{"type": "pairwise", "value": {"selected": "right"}}]}, {"completed_by": {"id": 4}, "result": [{"type": "pairwise", "value": {"selected": "left"}}]}]}], f)
    run("import", folder, "--name", "ls", "--from", os.path.join(folder, "ls.json"), "--format", "label-studio")
    record = json.loads(export(folder, "jsonl", "ls"))
    expect("label-studio pairs", [(l["shown"], l["ranks"], l["outcome"]) for l in record["labels"]], [([0, 1], [2, 1], "ranked"), ([0, 1], [1, 2], "ranked")])
    with open(os.path.join(folder, "ar.json"), "w", encoding="utf-8") as f:
        json.dump([{"fields": {"instruction": "p", "response-1": "a", "response-2": "b", "response-3": "c"}, "responses": {"ranking": [
            {"user_id": "u", "value": [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}, {"value": "response-3", "rank": 2}]}]}}], f)
    run("import", folder, "--name", "ar", "--from", os.path.join(folder, "ar.json"), "--format", "argilla")
    record = json.loads(export(folder, "jsonl", "ar"))
    expect("argilla ranking", [(c["text"], l["ranks"]) for c, l in zip(record["candidates"][:1], record["labels"])], [("a", [2, 1, 2])])
    # refusals leave nothing behind
    with open(os.path.join(folder, "bad.jsonl"), "w", encoding="utf-8") as f:
        f.write('{"prompt": "p", "candidates": ["a", "b"]}\n{"prompt": "p", "candidates": ["a"]}\n')
    expect("bad line", "bad.jsonl line 2" in run("import", folder, "--name", "bad", "--from", os.path.join(folder, "bad.jsonl"), status=2), True)
    run("export", folder, "--name", "bad", status=1)
    with open(os.path.join(folder, "bad.csv"), "w", encoding="utf-8") as f:
        f.write("prompt,a,b,label,strength\np,x,y,a,2\nq,x,y,b,strong\n")
    said = run("import", folder, "--name", "bad", "--from", os.path.join(folder, "bad.csv"), "--format", "csv", status=2)
    expect("bad strength", "bad.csv line 3" in said and "strength" in said, True)
    run("export", folder, "--name", "bad", status=1)
    if os.path.exists(SHARED):
        path = os.path.join(folder, "hh-real")
        with gzip.open(SHARED, "rt", encoding="utf-8") as f:
            lines = [line for _, line in zip(range(200), f)]
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(lines)
        run("import", folder, "--name", "hh-real", "--from", path, "--format", "hh")
        real = export(folder, "hh", "hh-real")
        expect("200 real dialogues", [json.loads(l) for l in real.splitlines()], [json.loads(l) for l in lines])
        # each form of them, read again, is the same dialogues and the same file
        for form in ("jsonl", "label-studio", "argilla", "csv", "trl", "trl-chat"):
            first, name = export(folder, form, "hh-real"), "real-" + form
            with open(os.path.join(folder, name), "w", encoding="utf-8", newline="") as f:
                f.write(first)
            run("import", folder, "--name", name, "--from", os.path.join(folder, name), "--format", form.split("-")[0] if form != "label-studio" else form)
            back = export(folder, "hh", name)
            blank = (lambda text: text.replace('Assistant: "', 'Assistant:"')) if form == "trl-chat" else lambda text: text  # an empty message has no blank before it
            expect("real dialogues by " + form, blank(back), blank(real))
            expect("and that again", export(folder, form, name), first)
        turns = json.loads(export(folder, "trl-chat", "hh-real").splitlines()[0])
        expect("dialogues are messages", ({m["role"] for m in turns["prompt"]}, turns["chosen"][0]["role"], "Human:" in json.dumps(turns)), ({"user", "assistant"}, "assistant", False))
    else:
        print("skipped: real dialogues of hh-rlhf (no %s)" % SHARED)
finally:
    server.close()
    shutil.rmtree(folder)
for failure in failures:
    print("FAILED " + failure)
sys.exit(1 if failures else 0)
