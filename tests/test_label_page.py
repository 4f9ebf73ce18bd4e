"""The labelling page in headless Chromium over the real server: a sitting by mouse, one by keyboard alone, one on a phone, a reload
and a lost connection in the middle, two people at once, hostile model output, axe-core. With a folder as argument the screenshots
are kept there. Exit status 77 where selenium or a browser is missing; without axe-core (package axe-selenium-python) own checks of
names, roles and contrast take its place, and that is said.

ctest timeout: 300
"""
import json
import os
import re
import sys
import time

from label_kit import Server, browser, item

try:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    print("skipped: python3-selenium is missing")
    sys.exit(77)

SHOTS = sys.argv[1] if len(sys.argv) > 1 else None
failures, checked = [], set()
HOSTILE = ["<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\"><svg onload=alert(1)>",
           "[click](javascript:document.title='pwned') ![](http://example.com/x.png) <a href='http://example.com'>a</a>",
           "x" * (1 << 20), "left \u202eright\u202c \u0000 zero\u200bwidth \u2066iso\u2069"]


def expect(what, got, wanted):
    if got != wanted:
        failures.append("%s: %r instead of %r" % (what, got, wanted))


def axe_source():
    try:
        import axe_selenium_python
        path = os.path.join(os.path.dirname(axe_selenium_python.__file__), "node_modules", "axe-core", "axe.min.js")
    except ImportError:
        path = os.environ.get("AXE_CORE", "")
    return open(path, encoding="utf-8").read() if os.path.exists(path) else None


AXE = axe_source()
# Own checks where axe-core is missing: every control has a name, every image and dialog too, texts have contrast 4.5.
OWN = """
const bad = [];
const name = (e) => e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length) || e.getAttribute('aria-labelledby');
for (const e of document.querySelectorAll('button, a, input, select, textarea, progress, dialog')) if (!name(e)) bad.push('no name: ' + e.outerHTML.slice(0, 80));
if (!document.documentElement.lang) bad.push('no language');
const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255).map((x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
const ground = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(b)) return b; } return 'rgb(255,255,255)'; };
for (const e of document.querySelectorAll('main *, header *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.offsetParent || e.closest(':disabled')) continue;
  const a = light(getComputedStyle(e).color), b = light(ground(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push('contrast ' + ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 80));
}
return bad;
"""


def accessible(b, what):
    if what in checked:
        return
    checked.add(what)
    if not AXE:
        expect("own checks of " + what, b.execute_script(OWN), [])
        return
    b.execute_script(AXE)
    result = b.execute_async_script("const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations), (e) => done([{id: String(e), nodes: []}]))")
    expect("axe-core on " + what, [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in result], [])


def shot(b, name):
    if SHOTS:
        b.save_screenshot(os.path.join(SHOTS, name + ".png"))


def wait(b, what, script, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if b.execute_script("return Boolean(%s)" % script):
            return True
        time.sleep(0.02)
    failures.append("%s: not within %d s; the page says %r" % (what, seconds, b.find_element(By.TAG_NAME, "body").text[:300]))
    return False


def no_errors(b, what, but=()):
    log = [e["message"] for e in b.get_log("browser") if not any(x in e["message"] for x in but)]
    expect(what + ": the browser's log", log, [])


def labels(server):
    return server.as_owner().ok("GET", "/api/owner/campaigns")["campaigns"][0]["labels"]


def text_of(b):
    return b.execute_script("return document.querySelector('#count')?.textContent + '|' + document.querySelector('h2.question')?.textContent + '|' + document.querySelector('#main h2')?.textContent + '|' + [...document.querySelectorAll('.card .text')].map((e) => e.textContent).join('|').slice(0, 3000)")


def settled(b, before):
    """The next question, or the end, is there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        now = text_of(b)
        if now != before and not b.execute_script("return document.querySelector('#next')?.dataset.frozen"):
            return now
        time.sleep(0.02)
    failures.append("nothing came after %r" % before[:200])
    return before


def all_seen(b):
    """Scrolls through, as a reader does."""
    for _ in range(60):
        hint = b.execute_script("return document.querySelector('#hint')?.textContent || ''")
        found = re.match(r"Scroll to the end of answer (\d+)", hint)
        if not found:
            return
        b.execute_script("document.querySelectorAll('.card .end')[%d].scrollIntoView({block: 'center'})" % (int(found.group(1)) - 1))
        time.sleep(0.05)


def kind(b):
    return b.execute_script("return document.querySelector('.cards')?.classList[1] || ''")


def by_mouse(b):
    click = lambda css, i=0: b.find_elements(By.CSS_SELECTOR, css)[i].click()
    all_seen(b)
    b.execute_script("scrollTo(0, 0)")
    k = kind(b)
    if k == "best_worst":
        b.execute_script("document.querySelectorAll('.card .best')[1].scrollIntoView({block: 'center'})")
        click(".card .best", 1)
        b.execute_script("document.querySelectorAll('.card .worst')[2].scrollIntoView({block: 'center'})")
        click(".card .worst", 2)
    elif k == "duel":
        b.execute_script("document.querySelector('.scale').scrollIntoView({block: 'center'})")
        click(".scale label", 1)
    else:
        for i in range(len(b.find_elements(By.CSS_SELECTOR, ".card")) - 1):
            b.execute_script("document.querySelectorAll('.card')[%d].scrollIntoView({block: 'center'})" % i)
            click(".card", i)
    click("#next")


def keys_for(b):
    return {"best_worst": "1" + "$", "duel": "2", "order": "1234567890"}[kind(b)]


def press(b, keys):
    """Keys as a keyboard sends them, to whatever has the focus."""
    chain = ActionChains(b)
    for key in keys:
        if key in "!@#$":
            chain.key_down(Keys.SHIFT).send_keys(str("!@#$".index(key) + 1)).key_up(Keys.SHIFT)
        else:
            chain.send_keys(key)
    chain.perform()


def finish(b, answer, most=60):
    for _ in range(most):
        if not kind(b):
            return b.execute_script("return document.querySelector('main h2').textContent")
        before = text_of(b)
        answer(b)
        settled(b, before)
    return "not finished"


def mouse(b, server):
    b.get(server.invite("Mouse"))
    wait(b, "guidelines", "document.querySelector('#accept')")
    accessible(b, "the guidelines")
    expect("the warning", "rude" in b.find_element(By.TAG_NAME, "main").text, True)
    expect("the token is gone from the address", "login" in b.current_url, False)
    b.find_element(By.ID, "accept").click()
    wait(b, "the first question", "document.querySelector('.card')")
    accessible(b, "a quad")
    expect("Next is off", b.find_element(By.ID, "next").is_enabled(), False)
    b.find_elements(By.CSS_SELECTOR, ".card .best")[0].click()
    b.execute_script("document.querySelectorAll('.card .worst')[3].click()")
    b.execute_script("scrollTo(0, 0)")
    shot(b, "quad")
    for id, title in (("show-help", "Keys"), ("show-history", "Your answers"), ("show-guidelines", "Guidelines, version 1")):
        b.find_element(By.ID, id).click()
        wait(b, title, "document.querySelector('dialog[open] h2')?.textContent === '%s'" % title)
        accessible(b, title)
        ActionChains(b).send_keys(Keys.ESCAPE).perform()
        wait(b, title + " closed", "!document.querySelector('dialog[open]')")
    seen = set()

    def one(browser_):
        k = kind(browser_)
        if k not in seen:
            seen.add(k)
            accessible(browser_, "a question: " + k)
            shot(browser_, k)
        by_mouse(browser_)

    expect("by mouse", finish(b, one), "All done")
    expect("the kinds that were asked", seen, {"best_worst", "duel", "order"})
    b.find_element(By.ID, "theme").click()
    accessible(b, "the end, dark")
    b.find_element(By.ID, "theme").click()
    no_errors(b, "mouse")


def keyboard(b, server):
    b.get(server.invite("Keys"))
    wait(b, "guidelines", "document.querySelector('#accept')")
    press(b, [Keys.ENTER])
    wait(b, "the first question", "document.querySelector('.card')")
    before = labels(server)
    # ? help; U takes steps back, then answers; each outcome has its key
    press(b, "?")
    wait(b, "help", "document.querySelector('#help[open]')")
    press(b, [Keys.ESCAPE])
    press(b, "1$")
    press(b, "u")
    expect("a step back", b.execute_script("return document.querySelectorAll('[aria-pressed=true]').length"), 1)
    press(b, "u")
    first = text_of(b)
    all_seen(b)
    press(b, keys_for(b) + Keys.ENTER)
    settled(b, first)
    expect("one label", labels(server) - before, 1)
    press(b, "u")
    wait(b, "the first one again", "%s === (document.querySelectorAll('.card .text')[0]?.textContent)" % json.dumps(first.split("|")[3]))
    expect("taken back", labels(server) - before, 0)
    for key, outcome in (("t", "tie"), ("b", "all bad"), ("s", "skipped"), ("c", "cannot rank")):
        now = text_of(b)
        all_seen(b)
        press(b, key + (Keys.ENTER if key == "t" and kind(b) == "duel" else ""))
        settled(b, now)
    now = text_of(b)
    press(b, "f")
    wait(b, "flag", "document.querySelector('#flag[open]')")
    press(b, "It is " + Keys.TAB + Keys.TAB + Keys.ENTER)
    settled(b, now)
    press(b, "h")
    wait(b, "history", "document.querySelectorAll('#history-list li').length >= 5")
    said = b.find_element(By.ID, "history-list").text
    expect("all outcomes are kept apart", [w for w in ("tie", "all bad", "skipped", "cannot rank", "flagged") if w not in said], [])
    press(b, [Keys.ESCAPE])
    press(b, "w")
    press(b, "because")
    press(b, [Keys.ESCAPE])

    def one(browser_):
        all_seen(browser_)
        if kind(browser_) == "duel":
            press(browser_, [Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "d", "d"])
        press(browser_, keys_for(browser_) + Keys.ENTER)

    expect("by keyboard", finish(b, one), "All done")
    no_errors(b, "keyboard")


def interrupted(b, server):
    """A reload keeps the draft; a lost server keeps the answer, which is sent once when it is back."""
    b.get(server.invite("Reload"))
    wait(b, "guidelines", "document.querySelector('#accept')")
    press(b, [Keys.ENTER])
    wait(b, "the first question", "document.querySelector('.card')")
    press(b, "2$")
    press(b, "w")
    press(b, "half a thought")
    press(b, [Keys.ESCAPE])
    question = text_of(b)
    b.refresh()
    wait(b, "the same question", "document.querySelectorAll('[aria-pressed=true]').length === 2")
    expect("after the reload", text_of(b), question)
    expect("the draft's words", b.find_element(By.ID, "reason").get_attribute("value"), "half a thought")
    before = labels(server)
    all_seen(b)
    port = server.port
    server.kill()
    press(b, [Keys.ENTER])
    wait(b, "the banner", "document.querySelector('#offline')?.hidden === false")
    shot(b, "offline")
    b.refresh()  # the page cannot even load: the answer is in the browser's storage
    time.sleep(0.3)
    server.start(port)
    for _ in range(5):
        b.get(server.url + "/")
        if wait(b, "back", "document.querySelector('.card') && !JSON.parse(localStorage.getItem('outbox') || '[]').length", 8):
            break
    expect("one label after all", labels(server) - before, 1)
    no_errors(b, "interrupted", ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"))


def two_at_once(server):
    first, second = browser(), browser()
    try:
        before = labels(server)
        for b, name in ((first, "Two A"), (second, "Two B")):
            b.get(server.invite(name))
            wait(b, "guidelines", "document.querySelector('#accept')")
            press(b, [Keys.ENTER])
            wait(b, "a question", "document.querySelector('.card')")
        for _ in range(3):
            for b in (first, second):
                now = text_of(b)
                all_seen(b)
                press(b, keys_for(b) + Keys.ENTER)
                settled(b, now)
        expect("two people's labels", labels(server) - before, 6)
        # the same person in two windows: the second answer is refused, said, and both go on
        first.execute_script("window.open('/')")
        first.switch_to.window(first.window_handles[1])
        wait(first, "the second window", "document.querySelector('.card')")
        for handle in (0, 1):
            first.switch_to.window(first.window_handles[handle])
            now = text_of(first)
            all_seen(first)
            press(first, keys_for(first) + Keys.ENTER)
            settled(first, now)
        expect("one label of two windows", labels(server) - before, 7)
    finally:
        first.quit()
        second.quit()


def phone(server):
    b = browser(390, 844, phone=True)
    try:
        b.get(server.invite("Phone"))
        wait(b, "guidelines", "document.querySelector('#accept')")
        b.find_element(By.ID, "accept").click()
        wait(b, "a question", "document.querySelector('.card')")
        expect("one column", b.execute_script("return new Set([...document.querySelectorAll('.card')].map((c) => c.offsetLeft)).size"), 1)
        expect("sideways scrolling", b.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)
        accessible(b, "the phone")
        shot(b, "phone")
        expect("on the phone", finish(b, by_mouse), "All done")
        no_errors(b, "phone")
    finally:
        b.quit()


def hostile(b):
    code = "Use this:\n```python\nprint('<b>')\n```\n- one\n- **two** `x < y`"
    server = Server([("Hostile", [{"prompt": HOSTILE[0], "candidates": [{"text": t} for t in HOSTILE]}, {"prompt": "code", "candidates": [{"text": code, "test": "3 of 4 passed"}, {"text": "no"}]}],
                      ["--set", "other_design=0", "--set", "gold=0", "--set", "repeats=0", "--set", "long_words=100000", "--set", "short_words=0"])])
    try:
        b.get(server.invite("Careful"))
        wait(b, "guidelines", "document.querySelector('#accept')")
        press(b, [Keys.ENTER])
        wait(b, "the hostile question", "document.querySelectorAll('.card').length === 4", 20)
        expect("title", "pwned" in b.title, False)
        expect("nothing was made of it", b.execute_script("return document.querySelectorAll('main img, main svg, main script, main a, main iframe').length"), 0)
        shown = b.execute_script("return [...document.querySelectorAll('.card .text')].map((e) => e.textContent.slice(0, 200)).join('|')")
        for wanted in ("<script>document.title='pwned'</script>", "javascript:document.title='pwned'", "U+202E", "U+200B", "U+2066", "\ufffd", "xxxx"):
            expect("is shown: " + wanted, wanted in shown, True)
        expect("sideways scrolling", b.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0)
        loaded = b.execute_script("return performance.getEntriesByType('resource').map((r) => r.name)")
        expect("nothing is fetched from elsewhere", [u for u in loaded if not u.startswith(server.url)], [])
        for _ in range(30):
            if "code" in b.find_element(By.CSS_SELECTOR, ".prompt .text").text[:6]:
                break
            now = text_of(b)
            press(b, "s")
            settled(b, now)
        expect("code is code", b.execute_script("return document.querySelector('.card pre code')?.textContent"), "print('<b>')")
        expect("its font", "monospace" in b.execute_script("return getComputedStyle(document.querySelector('.card pre code')).fontFamily"), True)
        expect("the test is hidden", "3 of 4" in b.find_element(By.TAG_NAME, "body").text, False)
        all_seen(b)
        press(b, "1" + Keys.ENTER)
        wait(b, "the test's result", "document.querySelector('#after').textContent.includes('3 of 4 passed')")
        press(b, [Keys.ENTER])
        wait(b, "the end", "document.querySelector('main h2')?.textContent === 'All done'")
        no_errors(b, "hostile")
    finally:
        server.close()


def owners_page(b, server):
    b.delete_all_cookies()
    b.get(server.url + "/owner")
    wait(b, "the owner's page refuses", "document.querySelector('main').textContent.includes('tenfold web printed')")
    name, value = server.as_owner().cookie.split("=", 1)
    b.add_cookie({"name": name, "value": value, "path": "/", "httpOnly": True, "sameSite": "Strict"})
    b.get(server.url + "/owner")
    wait(b, "people", "document.querySelectorAll('tbody tr').length > 3")
    accessible(b, "the owner's page")
    shot(b, "owner")
    b.find_element(By.ID, "invite-name").send_keys("Dora" + Keys.ENTER)
    wait(b, "the invitation", "document.querySelector('#invitation')?.textContent.includes('#login=')")
    no_errors(b, "owner's page")


OPTIONS = ["--set", "other_design=0", "--set", "gold=0", "--set", "repeats=0", "--set", "seed=5", "--set", "labels_each=20", "--set", "quads=2", "--set", "duels=2", "--set", "duels_alone=2",
           "--warning", "Some answers are rude."]
server = Server([("Keys and cats", [item(0, 6, 80), item(1, 4, 20), item(2, 3, 300)], OPTIONS)])
b = browser()
try:
    mouse(b, server)
    keyboard(b, server)
    interrupted(b, server)
    two_at_once(server)
    phone(server)
    owners_page(b, server)
    hostile(b)
finally:
    b.quit()
    server.close()
if not AXE:
    print("axe-core is missing: own checks of names and contrast on %d pages instead" % len(checked))
for failure in failures:
    print("FAILED " + failure)
sys.exit(1 if failures else 0)
