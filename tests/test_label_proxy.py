"""Behind a proxy: nginx with the very lines of docs/labelling.md, but for names, ports and files. Skipped where nginx or openssl
is missing."""
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time

from label_kit import Client, Server, item

NAME = "labels.example.org"
failures = []


def expect(what, got, wanted):
    if got != wanted:
        failures.append("%s: %r instead of %r" % (what, got, wanted))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Outside(Client):
    """One who comes through the proxy, by the public name."""

    def __init__(self, server, port, context):
        super().__init__(server)
        self.port, self.context = port, context

    def ask(self, method, path, body=None, headers=None):
        before, self.server = self.server, self
        self.host = "%s:%d" % (NAME, self.port)
        try:
            return super().ask(method, path, body, headers)
        finally:
            self.server = before

    def connect(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.context)
        connection.sock = self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), 30), server_hostname=NAME)
        return connection


if not shutil.which("nginx") or not shutil.which("openssl"):
    print("skipped: nginx or openssl is missing")
    sys.exit(77)
with open(os.path.join(os.environ["TENFOLD_SOURCE"], "docs", "labelling.md"), encoding="utf-8") as f:
    block = re.search(r"```nginx\n(.*?)```", f.read(), re.S).group(1)
server = Server([("Proxy", [item(0, 2)], ["--set", "gold=0", "--set", "repeats=0"])])
nginx = None
try:
    server.stop()
    folder, port = server.folder, free_port()
    certificate, key = os.path.join(folder, "labels.pem"), os.path.join(folder, "labels.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=" + NAME,
                    "-addext", "subjectAltName=DNS:" + NAME, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    inside = free_port()
    for old, new in (("listen 443 ssl", "listen 127.0.0.1:%d ssl" % port), ("/etc/ssl/labels.pem", certificate), ("/etc/ssl/labels.key", key), ("127.0.0.1:8300", "127.0.0.1:%d" % inside)):
        if old not in block:
            failures.append("docs/labelling.md has no '%s'" % old)
        block = block.replace(old, new)
    temporary = "".join("%s_temp_path %s/%s;\n" % (k, folder, k) for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as f:
        f.write("daemon off; pid %s/nginx.pid; error_log %s/nginx.log;\nevents {}\nhttp { access_log off;\n%s%s}\n" % (folder, folder, temporary, block))
    server.start(inside, ["web.public_url=https://%s:%d" % (NAME, port), "web.trusted_proxy=127.0.0.1"])
    server.port, server.host = inside, "127.0.0.1:%d" % inside
    nginx = subprocess.Popen(["nginx", "-p", folder, "-c", path], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    context = ssl.create_default_context(cafile=certificate)
    expect("the link names the proxy", server.link.split("/owner")[0], "https://%s:%d" % (NAME, port))
    owner = Outside(server, port, context).login(server.link)
    expect("the owner's cookie", owner.cookie.startswith("__Host-tenfold="), True)
    url = owner.ok("POST", "/api/owner/people", {"name": "Ann", "campaigns": [1]})["url"]
    expect("the invitation names the proxy", url.startswith("https://%s:%d/#login=" % (NAME, port)), True)
    ann = Outside(server, port, context).login(url)
    origin = {"Origin": "https://%s:%d" % (NAME, port)}
    expect("accepts", ann.ask("POST", "/api/campaigns/1/member", {"accept": 1}, origin).status, 200)
    ask = ann.ok("GET", "/api/campaigns/1/next")["ask"]
    ranks = [1, 2]
    body = {"key": "proxy-0001", "outcome": "ranked", "ranks": ranks, "strength": 0, "visible_ms": 1, "guidelines": 1, "page": "t"}
    expect("labels", ann.ask("POST", "/api/asks/%d/answer" % ask["ask"], body, origin).status, 200)
    expect("another origin", ann.ask("POST", "/api/asks/%d/answer" % ask["ask"], body, {"Origin": "https://evil.example"}).status, 403)
    expect("another host", ann.ask("GET", "/api/session", None, {"Host": "evil.example"}).status, 403)
    # who guesses is counted by their own address, which the proxy passes on and nobody can make up
    for k in range(12):
        last = Outside(server, port, context).ask("POST", "/api/login", {"token": "guess-%d" % k}, {"X-Forwarded-For": "10.0.0.%d" % k}).status
    expect("guessing with made-up addresses", last, 429)
finally:
    if nginx:
        nginx.terminate()
        nginx.wait(20)
    server.close()
for failure in failures:
    print("FAILED " + failure)
sys.exit(1 if failures else 0)
