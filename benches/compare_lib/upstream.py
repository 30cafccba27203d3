"""The application behind the proxies: nginx as two versions, blue and green, that answer from memory.

Paths, under every prefix that a proxy may route by: `…/1k` (1 KB from memory), `…/100k` (100 KB by sendfile) and
`…/check`, which says in its fields what the version saw of the request.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .client import answers

HOST = "shop.example.com"
SMALL = 1024
LARGE = 100 * 1024


@dataclass(frozen=True)
class Upstream:
    """Where the two versions listen."""

    blue: int
    green: int


CONFIG = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/upstream.pid;
error_log {folder}/upstream-error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    default_type text/plain;
    {servers}
}}
"""

SERVER = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder}/files;
        location ~ /1k$ {{ return 200 "{small}"; }}
        location ~ /100k$ {{ try_files /100k =404; }}
        location ~ /check$ {{
            add_header X-Version {version};
            add_header X-Saw-Forwarded-For $http_x_forwarded_for;
            add_header X-Saw-Host $http_host;
            add_header X-Saw-Connection $connection-$connection_requests;
            return 200 "{version}";
        }}
    }}
"""


def start(processes: machine.Processes, folder: Path, core: int | None) -> Upstream:
    """Starts both versions and waits until they answer."""
    upstream = Upstream(machine.free_port(), machine.free_port())
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / "100k").write_bytes(b"x" * LARGE)
    servers = "".join(
        SERVER.format(port=port, folder=folder, small="x" * SMALL, version=version)
        for version, port in (("blue", upstream.blue), ("green", upstream.green))
    )
    config = folder / "upstream.conf"
    config.write_text(CONFIG.format(user=nginx_user(), folder=folder, servers=servers))
    process = processes.start("upstream", ["nginx", "-c", str(config), "-p", str(folder)], core)
    for port in (upstream.blue, upstream.green):
        machine.wait_until("upstream", lambda port=port: answers(port, HOST, "/shop/check"), process)
    return upstream


def nginx_user() -> str:
    """The directive that keeps nginx' worker from changing to a user that can't read our files."""
    return "user root;" if os.geteuid() == 0 else ""
