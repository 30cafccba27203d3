"""The application behind the proxies: `benches/upstream/` as two versions, blue and green, that answer from memory.

It is made to cost the load's core as little as can be, so that the proxy's core is the busy one: a proxy that waits
sleeps and is woken, and then pays for that in its CPU time per request.
"""

from dataclasses import dataclass
from pathlib import Path

from . import build, machine
from .client import answers

HOST = "shop.example.com"
SMALL = 1024
LARGE = 100 * 1024


@dataclass(frozen=True)
class Upstream:
    """Where the two versions listen."""

    blue: int
    green: int


def start(processes: machine.Processes, core: int | None) -> Upstream:
    """Starts both versions and waits until they answer."""
    upstream = Upstream(machine.free_port(), machine.free_port())
    versions = [f"blue=127.0.0.1:{upstream.blue}", f"green=127.0.0.1:{upstream.green}"]
    process = processes.start("upstream", [build.executable("upstream", "benches/upstream"), *versions], core)
    for port in (upstream.blue, upstream.green):
        machine.wait_until("upstream", lambda port=port: answers(port, HOST, "/shop/check"), process)
    return upstream
