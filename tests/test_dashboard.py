"""The dashboard in headless Chromium over the real server, while two seeds of a PPO run: the list, curves that grow without a
reload, the step browser against run.db, search, seeds overlaid with their mean, labels, the same run with nobody watching, states
of runs that end in each way, hostile model output, a phone, axe-core; and who may ask for what. With a folder as
argument the screenshots are kept there. Exit status 77 where selenium or a browser is missing.

ctest timeout: 300
"""
import json
import os
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import urllib.parse
import uuid

from label_kit import Client, Server, browser, item
from page_kit import HOSTILE, accessible, expect, failures, finished, no_errors, press, shot, wait
from run_kit import CONFIG, PROGRAM, Background, sets, tenfold

try:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    print("skipped: python3-selenium is missing")
    sys.exit(77)

STEPS = 8
SETS = {"run.stages": "sft, ppo", "sft.steps": 4, "sft.optim.warmup": 2, "sft.eval_every": 0, "task.train": 64, "task.heldout": 8, "task.supervised": 64, "ppo.steps": STEPS,
        "ppo.prompts": 4, "reward.terms": "verifier:1.0, length:-0.01", "ppo.eval_every": 4, "run.workers": 1}


def start(folder, name, **more):
    return Background(folder, name, [PROGRAM, "run", CONFIG, "--out", os.path.join(folder, name), *sets({**SETS, **more})])


def rows(folder, name, sql, *values):
    """From run.db, as anybody may read it beside the learner."""
    with sqlite3.connect("file:%s?mode=ro" % urllib.parse.quote(os.path.join(folder, name, "run.db")), uri=True) as db:
        return db.execute(sql, values).fetchall()


def sign_in(b, server):
    name, value = server.as_owner().cookie.split("=", 1)
    b.get(server.url + "/favicon.ico")
    b.add_cookie({"name": name, "value": value, "path": "/", "httpOnly": True, "sameSite": "Strict"})


def show(b, server, **values):
    b.get(server.url + "/dashboard?" + urllib.parse.urlencode(values, doseq=True))


def latest_step(b, metric="objective/scores"):
    return b.execute_script("const t = document.querySelector(`[data-metric='%s'] .latest`)?.textContent; return t ? Math.max(...[...t.matchAll(/at step (\\d+)/g)].map((m) => Number(m[1]))) : -1" % metric)


def state(b, name):
    return b.execute_script("return [...document.querySelectorAll('tbody tr')].find((r) => r.querySelector('th a')?.textContent === arguments[0])?.querySelector('.state')?.textContent || ''", name)


def first_run(b, server):
    """From an empty folder: the run appears, its curves grow, the page is never loaded again."""
    sign_in(b, server)
    b.get(server.url + "/dashboard")
    wait(b, "no run", "document.querySelector('main').textContent.includes('No run in this folder yet')")
    accessible(b, "no runs")
    b.execute_script("window.here = 1")
    run = start(server.folder, "seed-1")
    run.__enter__()
    wait(b, "the run in the list", "document.querySelector('tbody th a')?.textContent === 'seed-1'", 60)
    b.execute_script("document.querySelector('tbody th a').click()")  # at once: the list is drawn anew as the run goes on
    wait(b, "the first point", "document.querySelector(`[data-metric='objective/scores'] .latest`)", 60)
    before = latest_step(b)
    wait(b, "a later point", "document.querySelector(`[data-metric='objective/scores'] .latest`).textContent.match(/at step (\\d+)/)[1] > %d" % before, 60)
    expect("the page was loaded once", b.execute_script("return window.here"), 1)
    return run


def browse(b, server):
    """The newest group of the run that goes on: what is shown is what run.db has."""
    press(b, "3")
    wait(b, "a group with its tokens", "document.querySelectorAll('.candidate').length === 10 && document.querySelectorAll('.token').length", 20)
    step = int(b.find_element(By.ID, "group-title").text.split()[1].strip(","))
    slot = rows(server.folder, "seed-1", "SELECT slot FROM candidates WHERE stage='ppo' AND step=? GROUP BY slot ORDER BY max(reward) - min(reward) DESC", step)[0][0]
    b.find_element(By.ID, "slot-%d" % slot).click()
    wait(b, "that group", "document.querySelector('#group-title')?.textContent.startsWith('Step %d, group %d,') && document.querySelectorAll('.token').length" % (step, slot))
    stored = rows(server.folder, "seed-1", "SELECT candidate, text, reward, token_count, finish FROM candidates WHERE stage='ppo' AND step=? AND slot=? ORDER BY candidate", step, slot)
    ranks, = rows(server.folder, "seed-1", "SELECT ranking, ranks FROM comparisons WHERE stage='ppo' AND step=? AND slot=? AND source='reward'", step, slot)
    best = json.loads(ranks[0])[0]
    expect("the best comes first", b.find_element(By.CSS_SELECTOR, ".candidate h3").text, "Rank 1: candidate %d" % best)
    expect("rewards that differ", len({r[2] for r in stored}) > 1, True)
    # ppo.eos_rule replace, its default: 0 for one that was cut. The run learns by GAE, whose values are not recorded: the advantage
    # is that against the group
    score = [0 if r[4] == 2 else r[2] for r in stored]
    mean = sum(score) / 10
    spread = (sum((x - mean) ** 2 for x in score) / 9) ** 0.5
    for candidate, text, reward, tokens, finish in stored[:3] + stored[best:best + 1]:
        card = b.find_element(By.ID, "candidate-%d" % candidate)
        figures = dict(e.text.rsplit(" ", 1) for e in card.find_elements(By.CSS_SELECTOR, ".figures li"))
        expect("tokens of %d" % candidate, figures["tokens"], str(tokens))
        expect("reward of %d" % candidate, abs(float(figures["reward"]) - reward) < 1e-3, True)
        expect("advantage of %d" % candidate, abs(float(figures["advantage"]) - (score[candidate] - mean) / (spread + 1e-4)) < 2e-3, True)
    wait(b, "all tokens", "[...document.querySelectorAll('.candidate')].every((c) => c.querySelectorAll('.token').length === Number(c.querySelector('.figures').textContent.match(/tokens (\\d+)/)[1]) || c.querySelector('.raw').textContent === '(empty)')")
    first = b.find_element(By.ID, "text-%d" % best)
    first.send_keys(Keys.ARROW_RIGHT)
    said = b.find_element(By.CSS_SELECTOR, ".about").text
    logprob, = rows(server.folder, "seed-1", "SELECT logprobs, experts FROM candidates WHERE stage='ppo' AND step=? AND slot=? AND candidate=?", step, slot, best)
    experts = [int.from_bytes(logprob[1][2 * i:2 * i + 2], "little") for i in range(8)]
    expect("the token's experts", "layer 1: %s; layer 2: %s." % (" ".join(map(str, experts[:4])), " ".join(map(str, experts[4:]))) in said, True)
    colours = lambda: b.execute_script("return new Set([...document.querySelectorAll('.token')].map((t) => t.style.backgroundColor)).size")
    expect("a heat map", colours() > 3, True)
    reference = floats(rows(server.folder, "seed-1", "SELECT logprobs FROM reference_logprobs WHERE stage='ppo' AND step=? AND slot=?", step, slot)[0][0])
    before = sum(r[3] for r in stored[:best])
    expect("against the reference", "log π − log π_ref %.3f" % (floats(logprob[0])[0] - reference[before]) in said.replace("−0.000", "0.000").replace("-0.000", "0.000"), True)
    b.execute_script("const s = document.querySelector('#colours'); s.value = 'reference'; s.dispatchEvent(new Event('change'))")
    expect("a heat map against the reference", colours() > 3, True)
    shot(b, "steps-reference")
    kl_of_record(server, step)
    before = b.execute_script("return document.querySelector('.groups [aria-current=true]').id")
    press(b, "j" if slot < 3 else "k")
    wait(b, "the group beside it", "document.querySelector('.groups [aria-current=true]').id !== '%s'" % before)
    accessible(b, "the step browser")
    shot(b, "steps")


def floats(blob):
    return struct.unpack("<%df" % (len(blob) // 4), blob)


def kl_of_record(server, step):
    """What is recorded of the reference is what objective/kl was made of."""
    ours = rows(server.folder, "seed-1", "SELECT slot, logprobs FROM candidates WHERE stage='ppo' AND step=? ORDER BY slot, candidate", step)
    theirs = rows(server.folder, "seed-1", "SELECT logprobs FROM reference_logprobs WHERE stage='ppo' AND step=? ORDER BY slot", step)
    kl, = rows(server.folder, "seed-1", "SELECT value FROM metrics WHERE stage='ppo' AND step=? AND name='objective/kl'", step)
    terms = [p - q for p, q in zip([p for _, blob in ours for p in floats(blob)], [q for blob, in theirs for q in floats(blob)], strict=True)]
    expect("objective/kl of step %d" % step, sum(terms) / len(ours), kl[0])


def search(b, server):
    text = rows(server.folder, "seed-1", "SELECT text FROM candidates WHERE stage='ppo' AND length(text) > 8 ORDER BY rowid LIMIT 1")[0][0]
    words = text[:6]
    press(b, "/")
    wait(b, "the search", "document.activeElement?.id === 'search-words'")
    b.find_element(By.ID, "search-words").send_keys(words + Keys.ENTER)
    wait(b, "places", "document.querySelectorAll('.hits li').length")
    hit = b.execute_script("return [...document.querySelectorAll('.hits li')].every((l) => l.querySelector('mark')?.textContent.toLowerCase() === arguments[0])", words.lower())
    expect("the words are marked", hit, True)
    while b.find_elements(By.ID, "search-more"):
        n = len(b.find_elements(By.CSS_SELECTOR, ".hits li"))
        b.find_element(By.ID, "search-more").click()
        wait(b, "older ones", "document.querySelectorAll('.hits li').length > %d || document.querySelector('#search-said')?.textContent.includes('everything')" % n)
    found = len(b.find_elements(By.CSS_SELECTOR, ".hits li"))
    now = rows(server.folder, "seed-1", "SELECT count(*) FROM candidates WHERE instr(lower(text), lower(?))", words)[0][0]
    expect("as many as there are", 0 < found <= now, True)
    accessible(b, "search")
    shot(b, "search")
    b.find_elements(By.CSS_SELECTOR, ".hits li a")[-1].click()
    wait(b, "the candidate that was found", "document.querySelector('.candidate.found')")
    b.find_element(By.LINK_TEXT, "Search").click()
    wait(b, "the search again", "document.querySelector('#search-words')")
    b.find_element(By.ID, "search-words").send_keys("no completion has this" + Keys.ENTER)
    wait(b, "nothing", "document.querySelector('#search-said')?.textContent === 'Nothing found.'")


def overlay(b, server):
    """Two seeds: two lines, then their mean with its band."""
    show(b, server, view="runs")
    wait(b, "seeds of one configuration", "document.querySelector('main').textContent.includes('2 seeds of one configuration')", 60)
    wait(b, "both finished", "document.querySelectorAll('.state.finished').length === 2 && document.querySelectorAll('td[title] code').length === 2", 120)
    for name in ("seed-1", "seed-2"):
        digest = tenfold("digest", os.path.join(server.folder, name)).out.split()[0]
        shown = b.execute_script("return [...document.querySelectorAll('tbody tr')].find((r) => r.querySelector('th a').textContent === arguments[0]).lastChild.title", name)
        expect("digest of " + name, digest, shown)
    accessible(b, "the runs")
    shot(b, "runs")
    b.find_element(By.LINK_TEXT, "2 seeds of one configuration").click()
    lines = "Chart.getChart(document.querySelector(`[data-metric='objective/kl'] canvas`))?.data.datasets"
    wait(b, "two lines", lines + "?.length === 2")
    accessible(b, "the curves")
    b.find_element(By.ID, "overlay-mean").click()
    wait(b, "the mean", lines + ".some((d) => d.label.endsWith('mean of 2'))")
    curves = [dict(rows(server.folder, name, "SELECT step, value FROM metrics WHERE stage='ppo' AND name='objective/kl'")) for name in ("seed-1", "seed-2")]
    wanted = [[(c[0] + c[1]) / 2, min(c), max(c)] for c in zip(*[[m[s] for s in range(STEPS)] for m in curves])]
    low, high, _, _, mean = b.execute_script("return %s.map((d) => d.data.map((p) => p.y))" % lines)
    for what, got, k in (("mean", mean, 0), ("lowest", low, 1), ("highest", high, 2)):
        expect("%s of the seeds" % what, [i for i in range(STEPS) if abs(got[i] - wanted[i][k]) > 1e-9], [])
    b.execute_script("const s = document.querySelector('#band'); s.value = 't'; s.dispatchEvent(new Event('change'))")
    high = b.execute_script("return %s[1].data.map((p) => p.y)" % lines)
    expect("the t-interval of two", [i for i in range(STEPS) if abs(high[i] - wanted[i][0] - 12.706 * (wanted[i][2] - wanted[i][1]) / 2) > 1e-6], [])
    wait(b, "the load of experts", "document.querySelector('canvas.heat')?.width === %d" % STEPS)
    expect("all 64 experts", b.execute_script("return document.querySelector('canvas.heat').height"), 64)
    shot(b, "curves")
    b.find_element(By.ID, "theme").click()
    accessible(b, "the curves, dark")
    shot(b, "curves-dark")
    b.find_element(By.ID, "theme").click()
    press(b, "?")
    wait(b, "keys", "document.querySelector('dialog[open]')")
    accessible(b, "the keys")
    press(b, [Keys.ESCAPE])


def unwatched(server):
    """The same run with no server and no page beside it has the same record, bit for bit; another seed's differs."""
    folder = tempfile.mkdtemp(prefix="tenfold-alone-")
    try:
        alone = os.path.join(folder, "alone")
        done = tenfold("run", CONFIG, "--out", alone, *sets(SETS))
        expect("the run that nobody watches", (done.status, done.err if done.status else ""), (0, ""))
        digest = lambda path: tenfold("digest", path).out.strip()
        expect("watched or not", digest(os.path.join(server.folder, "seed-1")), digest(alone))
        expect("another seed", digest(os.path.join(server.folder, "seed-2")) == digest(alone), False)
        for table in ("reference_logprobs", "candidates"):
            both = [rows(at, name, "SELECT * FROM %s ORDER BY stage, step, slot" % table) for at, name in ((server.folder, "seed-1"), (folder, "alone"))]
            expect("%s, watched or not" % table, (len(both[0]) > 0, both[0] == both[1]), (True, True))
    finally:
        shutil.rmtree(folder)


def ends(b, server):
    """A run that is killed, one that says why it cannot go on, one that is told to stop."""
    show(b, server, view="runs")
    model = {"run.stages": "ppo", "model.init": os.path.join(server.folder, "seed-1", "models", "sft"), "ppo.steps": 500}
    with start(server.folder, "killed", **model) as killed:
        wait(b, "running", "[...document.querySelectorAll('.state')].some((s) => s.textContent.startsWith('running'))", 60)
        accessible(b, "a run that goes on")
        children = killed.children().values()
        os.kill(killed.p.pid, signal.SIGKILL)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        wait(b, "failed", "document.querySelector('.state.failed')", 20)
        expect("killed", state(b, "killed"), "failed")
    with start(server.folder, "stopped", **{**model, "run.seed": 5}) as stopped:
        until = time.monotonic() + 60
        while not os.path.exists(os.path.join(server.folder, "stopped", "metrics.jsonl")) and time.monotonic() < until:
            time.sleep(0.05)
        stopped.p.send_signal(signal.SIGINT)
        stopped.wait()
    told = lambda: server.as_owner().ok("GET", "/api/runs?run=stopped")["runs"][0]["state"]
    expect("a moment after a stage has ended", told(), "between")
    for name in ("run.db", "run.db-wal", "log", "summary.json"):
        if os.path.exists(os.path.join(server.folder, "stopped", name)):
            os.utime(os.path.join(server.folder, "stopped", name), (1, 1))
    expect("later", told(), "stopped")
    tenfold("learner", CONFIG, "--out", os.path.join(server.folder, "stopped"), "--resume", *sets({**SETS, **model, "run.seed": 6}))
    wait(b, "why it cannot go on", "document.querySelector('main').textContent.includes('was started with run.seed 5')", 20)


def away(b, server):
    """The server goes and comes back: what failed says so and can be tried again, the rest goes on by itself."""
    show(b, server, view="steps", run="seed-1")
    wait(b, "a group", "document.querySelectorAll('.candidate').length === 10")
    server.kill()
    wait(b, "no connection", "document.querySelector('#note').textContent.startsWith('No connection')")
    press(b, "p")
    wait(b, "what failed", "document.querySelector('.fail')?.textContent.startsWith('No connection')")
    accessible(b, "what failed")
    server.start(server.port)
    b.find_element(By.CSS_SELECTOR, ".fail button").click()
    wait(b, "the step after all", "document.querySelectorAll('.candidate').length === 10 && document.querySelector('#group-title').textContent.startsWith('Step %d,')" % (STEPS - 2))
    wait(b, "connected again", "document.querySelector('#note').textContent === ''")


def hostile(b, server):
    """A record whose texts, terms and folder's name are meant to do harm."""
    name = "<img src=x onerror=alert(1)>"
    shutil.copytree(os.path.join(server.folder, "seed-1"), os.path.join(server.folder, name))
    db = sqlite3.connect(os.path.join(server.folder, name, "run.db"))
    for table in ("candidates", "prompts", "groups", "runs"):
        db.execute("DROP TRIGGER %s_no_update" % table)
    for i, text in enumerate(HOSTILE):
        db.execute("UPDATE candidates SET text=? WHERE candidate=?", (text, i))
    db.execute("UPDATE prompts SET text=?", (HOSTILE[0] + HOSTILE[1],))
    db.execute("UPDATE groups SET scorer_version='<script>pwned'")
    db.execute("UPDATE runs SET name='<b onmouseover=alert(1)>'")
    db.commit()
    db.close()
    for view in ("runs", "curves", "steps", "search"):
        show(b, server, view=view, run=name, q="<script>", **{"in": "prompts"})
        ready = {"runs": "document.querySelector('main').textContent.includes('<img src=x')", "curves": "document.querySelector('.latest')?.textContent.includes('<img src=x')",
                 "steps": "document.querySelectorAll('.candidate').length === 10", "search": "document.querySelectorAll('.hits li').length"}[view]
        wait(b, "hostile " + view, ready, 20)
        expect("title of " + view, "pwned" in b.title, False)
        expect("nothing was made of it in " + view, b.execute_script("return document.querySelectorAll('main img, main svg, main script, main iframe, main b, main a[href^=\"http\"]').length"), 0)
        expect("sideways scrolling of " + view, b.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)
        if view == "steps":
            b.execute_script("const s = document.querySelector('#order'); s.value = 'candidate'; s.dispatchEvent(new Event('change'))")
            seen = b.execute_script("return document.querySelector('.prompt-text').textContent")
            expect("the prompt as it stands", "<script>document.title='pwned'</script>" in seen and "javascript:" in seen, True)
            accessible(b, "hostile groups")
        loaded = b.execute_script("return performance.getEntriesByType('resource').map((r) => r.name)")
        expect("nothing is fetched from elsewhere", [u for u in loaded if not u.startswith(server.url)], [])
    shutil.rmtree(os.path.join(server.folder, name))


def labels(b, server):
    show(b, server, view="labels")
    wait(b, "no answer yet", "document.querySelector('main').textContent.includes('No answer yet.')")
    people = [server.person(n) for n in ("Ann", "Ben")]
    for p, person in enumerate(people):
        for k in range(8):
            ask = person.ok("GET", "/api/campaigns/1/next")["ask"]
            ranks = {"duel": [1, 2], "best_worst": [1, 2, 2, 3]}[ask["kind"]]
            person.ok("POST", "/api/asks/%d/answer" % ask["ask"], {"key": uuid.uuid4().hex, "outcome": "ranked", "ranks": ranks, "strength": 0, "visible_ms": 4000 + 1000 * k, "guidelines": 1, "page": "t"})
    wait(b, "sixteen answers without a reload", "document.querySelector('main').textContent.includes('In all 16 in')", 15)
    got = server.as_owner().ok("GET", "/api/owner/campaigns/1/statistics")
    expect("answers", (got["answers"], got["outcomes"]), (16, {"ranked": 16}))
    expect("two people agree on something", got["agreement"]["raters"] == 2 and 0 <= got["agreement"]["raw"]["low"] <= got["agreement"]["raw"]["value"] <= got["agreement"]["raw"]["high"] <= 1, True)
    expect("the first always wins", (got["left"]["value"] in (1, None), got["places"][0]["value"]), (True, 1))
    expect("median", got["median_seconds"], 8)
    expect("hours", sum(h[1] for h in got["hours"]), 16)
    wait(b, "agreement", "document.querySelector('main').textContent.includes(\"Krippendorff's\")")
    accessible(b, "the labels")
    shot(b, "labels")


def access(server):
    """Runs are the owner's; only runs below the folder can be named."""
    nobody, person = Client(server), server.person("Nosy")
    for path in ("/api/runs", "/api/runs/curves?run=seed-1", "/api/runs/experts?run=seed-1", "/api/runs/step?run=seed-1", "/api/runs/group?run=seed-1", "/api/runs/tokens?run=seed-1",
                 "/api/runs/search?run=seed-1&q=a", "/api/owner/campaigns/1/statistics"):
        expect("nobody asks " + path, nobody.ask("GET", path).status, 403)
        expect("a person asks " + path, person.ask("GET", path).status, 403)
    ask = lambda path, **more: server.as_owner().ask("GET", path + "?" + urllib.parse.urlencode(more)).status
    for run in ("../" + os.path.basename(server.folder) + "/seed-1", "..", "", "seed-1/.", "./seed-1", "/etc"):
        expect("the run %r" % run, ask("/api/runs/curves", run=run), 404)
    expect("no run named", ask("/api/runs/curves"), 400)
    for what in ({"step": "x"}, {"step": "-1"}, {"slot": "99999999999"}, {"candidate": "64"}, {"slot": "1e3"}, {"step": "99999"}):
        expect("a group at %r" % what, ask("/api/runs/tokens", run="seed-1", **what), 404)
    expect("a stage of nowhere", ask("/api/runs/step", run="seed-1", stage="' OR 1=1"), 200)
    expect("200 bytes are looked for", (ask("/api/runs/search", run="seed-1", q="x" * 200), ask("/api/runs/search", run="seed-1", q="x" * 201), ask("/api/runs/search", run="seed-1", q="")), (200, 400, 400))


def phone(server):
    b = browser(390, 844, phone=True)
    try:
        sign_in(b, server)
        for view, ready in (("runs", "tbody tr"), ("curves", "[data-metric] canvas"), ("steps", ".token"), ("labels", "#agree-title")):
            show(b, server, view=view, run="seed-1")
            wait(b, "%s on a phone" % view, "document.querySelector('%s')" % ready)
            expect("sideways scrolling of " + view, b.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)
            if view == "curves":
                expect("one column", b.execute_script("return new Set([...document.querySelectorAll('[data-metric]:not([hidden])')].map((c) => c.offsetLeft)).size"), 1)
            accessible(b, view + " on a phone")
            shot(b, "phone-" + view)
        no_errors(b, "phone")
    finally:
        b.quit()


server = Server([("Keys", [item(0, 10, 80), item(1, 10, 80)], ["--set", "other_design=0", "--set", "gold=0", "--set", "repeats=0", "--set", "seed=5", "--set", "labels_each=20"])])
b = browser()
try:
    with first_run(b, server) as one, start(server.folder, "seed-2", **{"run.seed": 2}) as two:
        browse(b, server)
        search(b, server)
        expect("nothing was loaded again", b.execute_script("return window.here"), 1)
        labels(b, server)
        overlay(b, server)
        expect("both runs", (one.wait(), two.wait()), (0, 0))
    unwatched(server)
    access(server)
    phone(server)
    hostile(b, server)
    ends(b, server)
    away(b, server)
    no_errors(b, "dashboard", ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED_ENCODING"))
finally:
    b.quit()
    server.close()
finished()
