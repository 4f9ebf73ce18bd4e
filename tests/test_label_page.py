"""The labelling page in headless Chromium over the real server: a sitting by mouse, one by keyboard alone, one on a phone, a reload
and a lost connection in the middle, two people at once, hostile model output, axe-core. With a folder as argument the screenshots
are kept there. Exit status 77 where selenium or a browser is missing; without axe-core (tests/page_kit.py) own checks of names, roles
and contrast take its place, and that is said.

ctest timeout: 300
"""
import json
import re
import sys
import time

from label_kit import Server, browser, item
from page_kit import HOSTILE, accessible, expect, failures, finished, no_errors, press, shot, wait

try:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    print("skipped: python3-selenium is missing")
    sys.exit(77)


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
    # the count is drawn with the next question: not before may the next key be pressed
    arrived = lambda n: wait(b, "the question after %d answers" % n, "document.querySelector('#count')?.textContent.includes('· %d answer')" % n)
    arrived(1)
    expect("one label", labels(server) - before, 1)
    press(b, "u")
    arrived(0)
    wait(b, "the first one again", "%s === (document.querySelectorAll('.card .text')[0]?.textContent)" % json.dumps(first.split("|")[3]))
    expect("taken back", labels(server) - before, 0)
    for n, (key, outcome) in enumerate((("t", "tie"), ("b", "all bad"), ("s", "skipped"), ("c", "cannot rank"))):
        all_seen(b)
        press(b, key + (Keys.ENTER if key == "t" and kind(b) == "duel" else ""))
        arrived(n + 1)
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


def ended(b, server):
    """The session ends while somebody answers: the answer stays in the browser and goes with the next link."""
    b.get(server.invite("Ended"))
    wait(b, "guidelines", "document.querySelector('#accept')")
    press(b, [Keys.ENTER])
    wait(b, "the first question", "document.querySelector('.card')")
    before, owner = labels(server), server.as_owner()
    person = {p["name"]: p["person"] for p in owner.ok("GET", "/api/owner/people")["people"]}["Ended"]
    link = owner.ok("POST", "/api/owner/people/%d/renew" % person, {})["url"]
    all_seen(b)
    press(b, keys_for(b) + Keys.ENTER)
    wait(b, "signed out", "document.querySelector('#main h2')?.textContent === 'Signed out'")
    expect("nothing was taken", labels(server), before)
    b.get(link)
    wait(b, "it is sent", "document.querySelector('.card') && !JSON.parse(localStorage.getItem('outbox') || '[]').length")
    expect("one label", labels(server) - before, 1)
    no_errors(b, "ended", ("403 (Forbidden)",))


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


# uniform=1: what is asked does not depend on how far the server trusts people by then
OPTIONS = ["--set", "other_design=0", "--set", "gold=0", "--set", "repeats=0", "--set", "seed=5", "--set", "labels_each=20", "--set", "quads=2", "--set", "duels=2", "--set", "duels_alone=2", "--set", "uniform=1",
           "--warning", "Some answers are rude."]
server = Server([("Keys and cats", [item(0, 6, 80), item(1, 4, 20), item(2, 3, 300)], OPTIONS)])
b = browser()
try:
    mouse(b, server)
    keyboard(b, server)
    interrupted(b, server)
    ended(b, server)
    two_at_once(server)
    phone(server)
    owners_page(b, server)
    hostile(b)
finally:
    b.quit()
    server.close()
finished()
