"""Opens the report that test_app wrote in a browser: no script error, hostile text inert, no sideways scrolling on a phone.

Exit status 77 where selenium or a browser is missing.
"""
import os
import sys
import time

try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By
except ImportError:
    print("python3-selenium is missing")
    sys.exit(77)

page = os.path.abspath("report_test.html")
if not os.path.exists(page):
    sys.exit("there is no %s; test_app writes it" % page)

options = webdriver.ChromeOptions()
for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1600"):
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
try:
    browser = webdriver.Chrome(options=options)
except WebDriverException as why:
    print("no browser: %s" % str(why).splitlines()[0])
    sys.exit(77)

failures = []


def expect(what, got, wanted):
    if got != wanted:
        failures.append("%s: %r instead of %r" % (what, got, wanted))


try:
    browser.get("file://" + page)
    for summary in browser.find_elements(By.CSS_SELECTOR, "details > summary"):
        browser.execute_script("arguments[0].parentNode.open = true", summary)
    browser.implicitly_wait(1)
    # two frames, so that what opened is drawn; a starved browser may stop giving frames, then three seconds have to do
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 3000); requestAnimationFrame(() => requestAnimationFrame(done))")
    log = [entry["message"] for entry in browser.get_log("browser")]
    expect("browser's log", log, [])
    expect("title", browser.title, "Tenfold report")
    expect("pictures", len(browser.find_elements(By.TAG_NAME, "img")), 0)
    headings = [h.text for h in browser.find_elements(By.TAG_NAME, "h2")]
    for wanted in ("Summary", "Reward and held-out pass rate", "Reward model", "Proxy and gold", "Expert load", "Best and worst groups", "Events", "Configuration"):
        expect("section " + wanted, wanted in headings, True)
    verdict = browser.find_element(By.CSS_SELECTOR, ".verdict").text
    expect("the reward model's verdict", "56.0 % [52.0, 60.0] of 347 pairs" in verdict and verdict.endswith("In words: not shown <b>."), True)
    cards = [h.text for h in browser.find_elements(By.CSS_SELECTOR, ".card h3")]
    for wanted in ("Proxy: learned reward model", "Gold: verifier", "Proxy against √KL", "Gold against √KL", "Held-out pass rate (gold) and baselines"):
        expect("card " + wanted, wanted in cards, True)
    main = browser.find_element(By.TAG_NAME, "main").text
    for wanted in ("supervised training continued instead of PPO", "70.0 % [65.0, 75.0]"):
        expect(wanted, wanted in main, True)
    expect("content warning", browser.find_element(By.CSS_SELECTOR, ".warning").text, "may <b>upset</b>")
    expect("hostile text is shown", "</script><script>document.title='pwned'" in browser.find_element(By.TAG_NAME, "main").text, True)
    expect("groups", len(browser.find_elements(By.CSS_SELECTOR, ".tag")), 12)
    expect("charts drawn", len(browser.find_elements(By.CSS_SELECTOR, ".plot canvas")) >= 4, True)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').length")
    expect("resources loaded", loaded, 0)
    for width in (1200, 500):
        browser.set_window_size(width, 1000)
        until, over = time.monotonic() + 5, 1
        while over and time.monotonic() < until:  # charts follow the width some frames later
            over = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        expect("sideways scrolling at %d" % width, over, 0)
finally:
    browser.quit()

for failure in failures:
    print("FAILED " + failure)
sys.exit(1 if failures else 0)
