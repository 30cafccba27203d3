"""The proxies under measurement, each configured to do the same: one worker, two routes by host and path, a 90/10 split
of the first, X-Forwarded-For added, connections to the upstreams kept, no access log; on one port plainly, on another
with TLS, by HTTP/2 too.

`check` lets each prove it before it is measured.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from . import build, machine
from .certificate import Certificate
from .client import Client, SecureClient, answers
from .upstream import HOST, LARGE, SMALL, Upstream


class Peer:
    """A proxy: how it is started, found, and told another pair of weights."""

    name = ""
    #: Said in the report, where it matters for reading the figures.
    note = ""

    def __init__(self, folder: Path, upstream: Upstream):
        self.folder = folder
        self.upstream = upstream
        self.port = machine.free_port()
        self.secure_port = machine.free_port()
        self.certificate = Certificate.of(folder)
        self.process: subprocess.Popen | None = None

    def start(self, processes: machine.Processes, core: int | None, under: tuple[str, ...] = ()):
        """Starts it, under a tool where one is named, and waits until it answers."""
        self.write_config(90, 10)
        self.process = processes.start(self.name, [*under, *self.command()], core)
        machine.wait_until(self.name, lambda: answers(self.port, HOST, "/shop/check"), self.process)

    def stop(self, processes: machine.Processes):
        """Ends it."""
        processes.end(self.process, patience=30)
        self.process = None

    def places(self) -> dict:
        """What every configuration names."""
        return {"port": self.port, "secure_port": self.secure_port, "certificate": self.certificate,
                "upstream": self.upstream, "host": HOST}

    def write_config(self, blue: int, green: int):
        """Writes its configuration with a pair of weights."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    def version(self) -> str:
        """What it calls itself."""
        raise NotImplementedError

    def set_weights(self, blue: int, green: int):
        """Changes the weights live; returns once the change was acknowledged."""
        raise NotImplementedError


class Switchback(Peer):
    """Ours. Metrics are always on, and so are the strict checks."""

    name = "switchback"
    CONFIG = """\
workers = 1

[admin]
listen = "127.0.0.1:{admin}"

[state]
path = ":memory:"

[shutdown]
delay = "0s"
deadline = "2s"

[[listener]]
name = "web"
listen = "127.0.0.1:{port}"
keep_alive_timeout = "10m"
max_connections = 16384

[[listener]]
name = "secure"
listen = "127.0.0.1:{secure_port}"
keep_alive_timeout = "10m"
max_connections = 16384
tls = {{ certificates = [{{ cert = "{certificate.chain}", key = "{certificate.key}" }}] }}

[pool.blue]
endpoints = ["127.0.0.1:{upstream.blue}"]

[pool.green]
endpoints = ["127.0.0.1:{upstream.green}"]

[split.shop]
weights = {{ blue = {blue}, green = {green} }}

[[route]]
name = "shop"
hosts = ["{host}"]
path = "/shop"
split = "shop"

[[route]]
name = "api"
hosts = ["{host}"]
path = "/api"
pool = "blue"
"""

    def __init__(self, folder: Path, upstream: Upstream):
        super().__init__(folder, upstream)
        self.admin = machine.free_port()
        self.binary = binary()

    def write_config(self, blue: int, green: int):
        text = self.CONFIG.format(admin=self.admin, blue=blue, green=green, **self.places())
        (self.folder / "switchback.toml").write_text(text)

    def command(self) -> list[str]:
        return [self.binary, "run", "-c", str(self.folder / "switchback.toml")]

    def version(self) -> str:
        return first_line([self.binary, "--version"])

    def set_weights(self, blue: int, green: int):
        client = Client(self.admin, f"127.0.0.1:{self.admin}")
        body = json.dumps({"blue": blue, "green": green})
        answer = client.request("/v1/splits/shop/weights", "PUT", body, **{"Content-Type": "application/json"})
        client.close()
        if answer.status != 200:
            raise SystemExit(f"switchback refused the weights: {answer.status} {answer.body.decode()}")


class Haproxy(Peer):
    """HAProxy with one thread; weights are set through its runtime socket."""

    name = "haproxy"
    CONFIG = """\
global
    nbthread 1
    maxconn 16384
    # It would refuse to start where the limit of files is below two for each connection; idle ones take one.
    no strict-limits
    stats socket {folder}/haproxy.sock mode 600 level admin

defaults
    mode http
    option http-keep-alive
    http-reuse always
    option forwardfor
    timeout connect 5s
    timeout client 600s
    timeout server 30s
    timeout http-keep-alive 600s
    timeout http-request 10s

frontend web
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{secure_port} ssl crt {certificate.both} alpn h2,http/1.1
    acl host_shop hdr(host) -i {host}
    acl path_shop path -m dir shop
    acl path_api path -m dir api
    http-request deny deny_status 404 unless host_shop
    use_backend shop if host_shop path_shop
    use_backend api if host_shop path_api
    default_backend none

backend shop
    balance roundrobin
    server blue 127.0.0.1:{upstream.blue} weight {blue}
    server green 127.0.0.1:{upstream.green} weight {green}

backend api
    server blue 127.0.0.1:{upstream.blue}

backend none
    http-request deny deny_status 404
"""

    def write_config(self, blue: int, green: int):
        text = self.CONFIG.format(folder=self.folder, blue=blue, green=green, **self.places())
        (self.folder / "haproxy.cfg").write_text(text)

    def command(self) -> list[str]:
        return ["haproxy", "-db", "-f", str(self.folder / "haproxy.cfg")]

    def version(self) -> str:
        return first_line(["haproxy", "-v"])

    def set_weights(self, blue: int, green: int):
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(str(self.folder / "haproxy.sock"))
            runtime.sendall(f"set weight shop/blue {blue}; set weight shop/green {green}\n".encode())
            runtime.shutdown(socket.SHUT_WR)
            answer = b""
            while part := runtime.recv(4096):
                answer += part
        if answer.strip():
            raise SystemExit(f"haproxy refused the weights: {answer.decode()}")


class Nginx(Peer):
    """nginx with one worker process; weights are changed by a new file and a reload."""

    name = "nginx"
    note = "nginx has no live weights: its file is rewritten and it is reloaded, which is acknowledged by nothing."
    CONFIG = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    proxy_temp_path {folder}/nginx-temp;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;

    ssl_certificate {certificate.chain};
    ssl_certificate_key {certificate.key};
    ssl_protocols TLSv1.2 TLSv1.3;

    upstream shop {{
        server 127.0.0.1:{upstream.blue} {blue};
        server 127.0.0.1:{upstream.green} {green};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    upstream api {{
        server 127.0.0.1:{upstream.blue};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} default_server backlog=4096;
        listen 127.0.0.1:{secure_port} ssl http2 default_server backlog=4096;
        return 404;
    }}
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{secure_port} ssl http2;
        server_name {host};
        location /shop/ {{ proxy_pass http://shop; }}
        location /api/ {{ proxy_pass http://api; }}
        location / {{ return 404; }}
    }}
}}
"""

    def write_config(self, blue: int, green: int):
        # nginx takes no weight of 0: "down" is what it calls that.
        weights = {name: f"weight={weight}" if weight else "down" for name, weight in
                   (("blue", blue), ("green", green))}
        text = self.CONFIG.format(user=nginx_user(), folder=self.folder, **weights, **self.places())
        (self.folder / "nginx.conf").write_text(text)

    def command(self) -> list[str]:
        return ["nginx", "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)]

    def version(self) -> str:
        return first_line(["nginx", "-v"])

    def set_weights(self, blue: int, green: int):
        self.write_config(blue, green)
        self.process.send_signal(signal.SIGHUP)


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Switchback, Haproxy, Nginx)}


def binary() -> str:
    """The release binary: `SWITCHBACK_BIN`, or built now."""
    if given := os.environ.get("SWITCHBACK_BIN"):
        return given
    return build.executable("switchback")


def nginx_user() -> str:
    """The directive that keeps nginx' worker from changing to a user that can't read our files."""
    return "user root;" if os.geteuid() == 0 else ""


def first_line(command: list[str]) -> str:
    """What a program says first, to either output."""
    if not shutil.which(command[0]):
        raise SystemExit(f"{command[0]} is not there; tests/install benches installs what the benchmarks need")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return re.sub(r" - https?://\S+", "", (done.stdout + done.stderr).strip().splitlines()[0])


def check(peer: Peer):
    """Makes sure that a proxy does the work that it is measured at."""
    client = Client(peer.port, HOST)
    versions, kept = {"blue": 0, "green": 0}, 0
    for _ in range(1000):
        answer = client.request("/shop/check")
        insist(peer, answer.status == 200, f"a check was answered with {answer.status}")
        versions[answer.headers["x-version"]] += 1
        kept += not answer.headers["x-saw-connection"].endswith("-1")
        insist(peer, "127.0.0.1" in answer.headers.get("x-saw-forwarded-for", ""), "X-Forwarded-For is not added")
        insist(peer, answer.headers["x-saw-host"] == HOST, "the host is not passed on")
    insist(peer, 60 <= versions["green"] <= 140, f"the split is not 90/10: {versions}")
    insist(peer, kept >= 950, f"connections to the upstreams are not kept: only {kept} of 1000 requests met one")
    insist(peer, client.request("/api/check").headers["x-version"] == "blue", "/api is not routed to blue")
    for path, length in (("/shop/1k", SMALL), ("/shop/100k", LARGE)):
        insist(peer, len(client.request(path).body) == length, f"{path} is not {length} bytes long")
    insist(peer, client.request("/other").status == 404, "a path without a route is not 404")
    client.close()
    stranger = Client(peer.port, "other.example.com")
    insist(peer, stranger.request("/shop/1k").status == 404, "a host without a route is not 404")
    stranger.close()
    closing = Client(peer.port, HOST)
    answer = closing.request("/shop/1k", Connection="close")
    insist(peer, answer.headers.get("connection", "").lower() == "close", "Connection: close is not answered")
    closing.close()
    secure = SecureClient(peer.secure_port, HOST)
    insist(peer, secure.request("/shop/check").status == 200, "a request over TLS is not answered with 200")
    insist(peer, secure.version == "TLSv1.3", f"it speaks {secure.version}")
    secure.close()


def insist(peer: Peer, holds: bool, otherwise: str):
    """Ends the run if a proxy does something else than the others."""
    if not holds:
        raise SystemExit(f"{peer.name}: {otherwise}")
