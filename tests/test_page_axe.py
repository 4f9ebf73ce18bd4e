"""axe-core over every page in headless Chromium: signed out, guidelines, a quad, a duel, an order, the dialogs, what ends a sitting, the
owner's page with its dialogs, a pair to settle, and each view of the dashboard; in light and dark, in a desktop's and a phone's width, where
nothing may stand out sideways either. A fault that is planted first has to be found. Exit status 77 without selenium, a browser or
axe-core (tests/page_kit.py says where it is looked for)."""
import os
import sys
import uuid

from label_kit import Server, browser, item
from page_kit import AXE, expect, failures, finished, no_errors, press, shot, violations, wait
from run_kit import CONFIG, sets, tenfold

if not AXE:
    print("skipped: axe-core is not here: scripts/deps --test fetches it")
    sys.exit(77)

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SIZES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
ALONE = ["--set", "other_design=0", "--set", "gold=0", "--set", "repeats=0", "--set", "overlap=0", "--set", "labels_each=3", "--set", "uniform=1", "--set", "seed=5"]


def check(b, what):
    """The page as it is, in each size and theme (a dialog, over a page that was looked at: in each once); it stays in the desktop's light one."""
    for size, (width, height, mobile) in reversed(SIZES.items()):
        b.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})
        for theme in ("dark", "light") if not b.execute_script("return document.querySelector('dialog[open]')") else ("light",) if size == "desktop" else ("dark",):
            b.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
            b.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
            expect("axe-core on %s, %s, %s" % (what, size, theme), violations(b), [])
            shot(b, "axe-%s-%s-%s" % (what.replace(" ", "-"), size, theme))
        expect("%s, %s: what stands out sideways" % (what, size), b.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)


def planted(b):
    """The comparer sees what it is there for."""
    b.execute_script("const e = document.createElement('button'); e.id = 'planted'; document.querySelector('main').append(e)")
    expect("a button without a name is found", [v[0] for v in violations(b)], ["button-name"])
    b.execute_script("document.querySelector('#planted').remove()")


def answer(person, campaign, worst_first=False):
    """Every duel of the campaign, by what stands in the texts wherever they are shown."""
    while True:
        n = person.ok("GET", "/api/campaigns/%d/next" % campaign)
        if n["state"] != "ask":
            return
        first = n["ask"]["shown"][0] < n["ask"]["shown"][1]
        person.ok("POST", "/api/asks/%d/answer" % n["ask"]["ask"], {"key": uuid.uuid4().hex, "outcome": "ranked", "ranks": [1, 2] if first != worst_first else [2, 1], "strength": 0, "visible_ms": 4000,
                                                                     "guidelines": 1, "page": "t"})


def signed_out(b, server):
    for page, ready in (("/", "Sign in"), ("/owner", "For the owner"), ("/dashboard", "For the owner")):
        b.get(server.url + page)
        wait(b, page, "document.querySelector('main h2')?.textContent === '%s'" % ready)
        check(b, "signed out of " + page.strip("/"))
    planted(b)


def labelling(b, server):
    b.get(server.invite("Ann", (1, 2, 3)))
    for k, (kind, cards) in enumerate((("best_worst", 4), ("duel", 2), ("order", 3))):
        if k:
            b.execute_script("const s = document.querySelector('#choose'); s.value = '%d'; s.dispatchEvent(new Event('change'))" % (k + 1))
        wait(b, "guidelines", "document.querySelector('#accept')")
        if not k:
            check(b, "the guidelines")
        b.find_element(By.ID, "accept").click()
        wait(b, kind, "document.querySelectorAll('.cards.%s .card').length === %d" % (kind, cards))
        check(b, kind)
    press(b, "1w")
    check(b, "an answer that is begun")
    press(b, [Keys.ESCAPE])
    for key, id in (("?", "help"), ("h", "history"), ("g", "guidelines"), ("f", "flag")):
        press(b, key)
        wait(b, id, "document.querySelector('#%s[open]')" % id)
        check(b, "dialog " + id)
        press(b, [Keys.ESCAPE])
    b.execute_script("document.querySelector('#opt-out').click()")
    wait(b, "left", "document.querySelector('#main h2')?.textContent === 'You have left this campaign'")
    check(b, "what ends a sitting")


def owner(b, server):
    answer(server.person("Ben", (2,)), 2)
    answer(server.person("Cem", (2,)), 2, True)
    name, value = server.as_owner().cookie.split("=", 1)
    b.delete_all_cookies()
    b.add_cookie({"name": name, "value": value, "path": "/", "httpOnly": True, "sameSite": "Strict"})
    b.get(server.url + "/owner")
    wait(b, "people", "document.querySelectorAll('tbody tr').length > 5")
    b.find_element(By.ID, "invite-name").send_keys("Dora" + Keys.ENTER)
    wait(b, "the invitation", "document.querySelector('#invitation')")
    check(b, "the owner's page")
    for text, id in (("Guidelines", "edit-title"), ("Disagreements", "disputes-title")):
        b.execute_script("[...document.querySelectorAll('tbody tr')].find((r) => r.textContent.startsWith('Duels')).querySelectorAll('button').forEach((x) => { if (x.textContent === '%s') x.click(); })" % text)
        wait(b, text, "document.querySelector('dialog[open] #%s')" % id)
        check(b, "dialog " + text)
        if id == "edit-title":
            b.execute_script("document.querySelector('dialog[open]').remove()")
    b.find_element(By.CSS_SELECTOR, "dialog[open] li button").click()
    wait(b, "to be settled", "document.querySelector('#note').textContent.includes('labelling page')")
    b.get(server.url + "/")
    wait(b, "campaigns", "document.querySelector('#choose option')")
    b.execute_script("const s = document.querySelector('#choose'); s.value = '2'; s.dispatchEvent(new Event('change'))")
    wait(b, "the pair", "document.querySelectorAll('.card').length === 2")
    check(b, "a pair to settle")


def dashboard(b, server):
    for view, ready in (("runs", "tbody tr"), ("curves", "[data-metric] .latest"), ("steps", ".token"), ("search&q=a", "#search-said"), ("labels&campaign=2", "#agree-title")):
        b.get(server.url + "/dashboard?view=" + view)
        wait(b, view, "document.querySelector('%s')" % ready, 20)
        check(b, "dashboard " + view.split("&")[0])
    press(b, "?")
    wait(b, "keys", "document.querySelector('dialog[open]')")
    check(b, "the dashboard's keys")


server = Server([("Quads", [item(0, 10, 80)], ALONE + ["--warning", "Some answers are rude."]), ("Duels", [item(1, 2, 300)], ALONE), ("Orders", [item(2, 3, 20)], ALONE)])
b = browser()
try:
    made = tenfold("run", CONFIG, "--out", os.path.join(server.folder, "run"), *sets({"run.stages": "sft, ppo", "sft.steps": 4, "sft.optim.warmup": 2, "sft.eval_every": 0, "task.train": 64, "task.heldout": 8,
                                                                                     "task.supervised": 64, "ppo.steps": 2, "ppo.prompts": 2, "ppo.eval_every": 0, "run.workers": 1}))
    if made.status:
        failures.append("the run: " + made.err)
    signed_out(b, server)
    labelling(b, server)
    owner(b, server)
    dashboard(b, server)
    no_errors(b, "pages")
finally:
    b.quit()
    server.close()
finished()
