"""What the tests of the labelling page share: candidates, a server, people, a browser.

TENFOLD: the program. Exit status 77 where selenium or a browser is missing (browser()).
"""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse

PROGRAM = os.environ["TENFOLD"]
WORDS = ("the keys were left on a small table by the door where nobody looks in the morning and the cat had moved them under "
         "an old newspaper that was about to be thrown away by somebody who wanted to tidy up before guests came").split()


def text(item, candidate, words):
    """`words` words that depend on both numbers."""
    return "Answer %c to question %d: " % (65 + candidate, item) + " ".join(WORDS[(item * 7 + candidate * 3 + i) % len(WORDS)] for i in range(words - 5)) + "."


def item(number, size=10, words=80, **more):
    return {"prompt": "Question %d: where are my keys, and how do I stop losing them?" % number,
            "candidates": [{"text": text(number, k, words), "source": "model-%d" % (k % 3)} for k in range(size)], **more}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Client:
    """One who speaks HTTP as the page does: cookie and token."""

    def __init__(self, server, keep=False):
        """keep: one connection for all requests, as a browser has it; it must not be used after the server was stopped."""
        self.server, self.cookie, self.csrf, self.keep, self.connection = server, "", "", keep, None

    def ask(self, method, path, body=None, headers=None):
        lines = {"Host": self.server.host, **({"Cookie": self.cookie} if self.cookie else {}), **({"X-CSRF-Token": self.csrf} if self.csrf else {})}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            lines["Content-Type"] = "application/json"
        lines.update(headers or {})
        connection = self.connection or self.server.connect()
        if self.keep:
            self.connection = connection
        try:
            connection.request(method, path, data, {k: v for k, v in lines.items() if v is not None})
            reply = connection.getresponse()
            answer = Answer(reply.status, reply.headers, reply.read().decode("utf-8", "replace"))
        finally:
            if not self.keep:
                connection.close()
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].split(";")[0]
        return answer

    def ok(self, method, path, body=None):
        answer = self.ask(method, path, body)
        if answer.status != 200:
            sys.exit("%s %s: %d %s" % (method, path, answer.status, answer.body))
        return answer.json() if answer.body.startswith("{") else answer.body

    def login(self, link):
        reply = self.ok("POST", "/api/login", {"token": link.split("#login=")[1]})
        self.csrf = reply["csrf"]
        return self


class Server:
    """tenfold web over a folder of its own, with campaigns made by tenfold label new."""

    tls = None  # ssl.SSLContext of the clients, for a server with a certificate

    def __init__(self, campaigns, port=0, folder=None):
        self.folder = folder or tempfile.mkdtemp(prefix="tenfold-web-")
        for name, items, options in campaigns:
            path = os.path.join(self.folder, name + ".jsonl")
            with open(path, "w", encoding="utf-8") as f:
                for one in items:
                    f.write(json.dumps(one) + "\n")
            command = [PROGRAM, "label", "new", self.folder, "--name", name, "--from", path, *options]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit("%s: %s" % (" ".join(command), done.stderr))
        self.start(port)

    def start(self, port=0, sets=()):
        command = [PROGRAM, "web", self.folder, "--port", str(port)]
        for s in sets:
            command += ["--set", s]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.link = self.process.stdout.readline().strip()
        found = re.match(r"(https?)://([^/]+)/owner#login=(.+)$", self.link)
        if not found:
            sys.exit("tenfold web said: " + self.link)
        self.host = found.group(2)
        self.url = found.group(1) + "://" + self.host
        self.port = urllib.parse.urlsplit(self.url).port or port
        self.owner = None

    def connect(self):
        if self.url.startswith("https:"):
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def as_owner(self):
        if not self.owner:
            self.owner = Client(self).login(self.link)
        return self.owner

    def invite(self, name, campaigns=(1,), languages=""):
        return self.as_owner().ok("POST", "/api/owner/people", {"name": name, "campaigns": list(campaigns), "languages": languages})["url"]

    def person(self, name, campaigns=(1,), accept=True, keep=False):
        client = Client(self, keep).login(self.invite(name, campaigns))
        for c in campaigns if accept else ():
            client.ok("POST", "/api/campaigns/%d/member" % c, {"accept": 1})
        return client

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(30) != 0:
            sys.exit("tenfold web ended with %d" % self.process.returncode)

    def close(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)


def browser(width=1280, height=900, phone=False):
    """Headless Chromium; ends with 77 where there is none."""
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
    except ImportError:
        print("skipped: python3-selenium is missing")
        sys.exit(77)
    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=%d,%d" % (width, height)):
        options.add_argument(argument)
    if phone:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        return webdriver.Chrome(options=options)
    except WebDriverException as why:
        print("skipped: no browser: %s" % str(why).splitlines()[0])
        sys.exit(77)
