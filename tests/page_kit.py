"""What the tests of the pages in a browser share: waiting, keys, axe-core, what hostile output looks like. Failures are collected,
and `finished` ends with them.

SHOTS: the folder for screenshots, the program's argument. axe-core is the axe.min.js of a Python package that ships it (scripts/deps
--test fetches one into build/python; else axe_playwright_python, axe_core_python or axe_selenium_python of this Python or of
$TENFOLD_PYTHON), or AXE_CORE names the file. Without it own checks of names, roles and contrast take its place, and that is said.
"""
import glob
import os
import subprocess
import sys
import sysconfig
import time

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
    other = os.environ.get("TENFOLD_PYTHON")
    ask = [other, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"] if other else None
    folders = [os.path.join(os.environ.get("TENFOLD_SOURCE", "."), "build", "python"), sysconfig.get_path("purelib"), "/usr/lib/python3/dist-packages",
               subprocess.run(ask, capture_output=True, text=True).stdout.strip() if ask else ""]
    found = [os.environ.get("AXE_CORE", "")]
    for folder in folders:
        for place in ("axe_playwright_python", "axe_core_python", os.path.join("axe_selenium_python", "node_modules", "axe-core")):
            found += glob.glob(os.path.join(folder, place, "axe.min.js"))
    for path in found:
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as f:
                return f.read()
    return None


AXE = axe_source()
# Own checks where axe-core is missing: every control has a name, every image and dialog too, texts have contrast 4.5.
OWN = """
const bad = [];
const name = (e) => e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length) || e.getAttribute('aria-labelledby');
for (const e of document.querySelectorAll('button, a, input, select, textarea, progress, dialog')) if (!name(e)) bad.push('no name: ' + e.outerHTML.slice(0, 80));
if (!document.documentElement.lang) bad.push('no language');
const parts = (c) => { const v = c.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
const light = (v) => { const w = v.slice(0, 3).map((x) => x / 255).map((x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * w[0] + .7152 * w[1] + .0722 * w[2]; };
// what lies behind: translucent grounds over each other
const ground = (e) => { if (!e) return [255, 255, 255]; const c = parts(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; const below = ground(e.parentElement); return [0, 1, 2].map((k) => c[3] * c[k] + (1 - c[3]) * below[k]); };
for (const e of document.querySelectorAll('main *, header *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.offsetParent || e.closest(':disabled')) continue;
  const a = light(parts(getComputedStyle(e).color)), b = light(ground(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push('contrast ' + ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 80));
}
return bad.slice(0, 5);
"""


def accessible(b, what):
    if what in checked:
        return
    checked.add(what)
    if not AXE:
        expect("own checks of " + what, b.execute_script(OWN), [])
        return
    expect("axe-core on " + what, violations(b), [])


def violations(b):
    """What axe-core finds on the page as it is shown now: rules with the elements that break them."""
    if not b.execute_script("return Boolean(window.axe)"):
        b.execute_script(AXE)
    result = b.execute_async_script("const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations), (e) => done([{id: String(e), nodes: []}]))")
    return [(v["id"], [n["html"][:160] for n in v["nodes"]][:3]) for v in result]


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


def press(b, keys):
    """Keys as a keyboard sends them, to whatever has the focus."""
    chain = ActionChains(b)
    for key in keys:
        if key in "!@#$":
            chain.key_down(Keys.SHIFT).send_keys(str("!@#$".index(key) + 1)).key_up(Keys.SHIFT)
        else:
            chain.send_keys(key)
    chain.perform()


def finished():
    if not AXE:
        print("axe-core is missing: own checks of names and contrast on %d pages instead" % len(checked))
    for failure in failures:
        print("FAILED " + failure)
    sys.exit(1 if failures else 0)
