"""The works that the proxies are compared at, and what one round of each measures; those over TLS are in `secure`.

Each round is a few seconds with one proxy; the caller interleaves the proxies, so that a drift of the machine's speed
meets all of them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from . import load, machine
from .client import Client
from .peers import Peer
from .upstream import HOST

PROXY_CORE = 0
LOAD_CORE = 1
IDLE_CONNECTIONS = 10_000


@dataclass
class Bench:
    """What the rounds of all works share."""

    processes: machine.Processes
    seconds: float
    idle: int = IDLE_CONNECTIONS
    #: The constant rate of the work "latency": half of what the slower one can do.
    rate: int = 0
    #: Commands that were run, for the report, in order and each once.
    commands: dict[str, None] = field(default_factory=dict)
    #: Failures that a work does not measure but must not have.
    failures: list[str] = field(default_factory=list)

    def keep(self, peer: Peer, result: load.Load) -> load.Load:
        """Notes a load's command and what failed in it."""
        self.commands.setdefault(result.command)
        if result.failed:
            self.failures.append(f"{peer.name}: {result.failed} failed in: {result.command}")
        return result


@dataclass(frozen=True)
class Metric:
    """One figure of a work; less is better in all of them but rates."""

    name: str
    unit: str
    digits: int
    target: str = ""


@dataclass(frozen=True)
class Work:
    """A work: its name, what is done before its rounds, one round, and what that measures."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    round: Callable[[Bench, Peer], dict[str, float]]
    prepare: Callable[[Bench, list[Peer]], None] = lambda bench, peers: None
    #: Whether every round has a fresh process: memory that was once used is not given back.
    fresh: bool = False


CPU = "CPU per request"
BUSY = "core 0 busy"
#: A proxy under a full load that is not busy waits for the load's core, and pays for falling asleep and being woken.
SATURATED = Metric(BUSY, "%", 0, "95 or more")


class Watch:
    """A proxy's CPU time since the watch was made."""

    def __init__(self, peer: Peer):
        self._pid = peer.process.pid
        self._before = machine.cpu_nanoseconds(self._pid)

    def figures(self, result: load.Load) -> dict[str, float]:
        """What the load that has just ended took, for each request and of its core."""
        spent = machine.cpu_nanoseconds(self._pid) - self._before
        return {CPU: spent / result.requests / 1000, BUSY: spent / result.seconds / 1e7}


def cpu_round(path: str, close: bool = False) -> Callable[[Bench, Peer], dict[str, float]]:
    """A round that measures the CPU time of the proxy for each request of a full load."""

    def measure(bench: Bench, peer: Peer) -> dict[str, float]:
        load.wrk(peer.port, path, 1, LOAD_CORE, close=close)
        watch = Watch(peer)
        result = bench.keep(peer, load.wrk(peer.port, path, bench.seconds, LOAD_CORE, close=close))
        return {**watch.figures(result), "rate": result.rate}

    return measure


def find_rate(bench: Bench, peers: list[Peer]):
    """Half of the slower one's saturation, in whole hundreds."""
    rates = {peer.name: bench.keep(peer, load.wrk(peer.port, "/shop/1k", bench.seconds, LOAD_CORE)).rate
             for peer in peers}
    bench.rate = max(100, int(min(rates.values()) / 2) // 100 * 100)


def latency_round(bench: Bench, peer: Peer) -> dict[str, float]:
    """The p99 at a constant rate that every proxy can hold."""
    watch = Watch(peer)
    result = bench.keep(peer, load.oha_rate(peer.port, "/shop/1k", bench.seconds, LOAD_CORE, bench.rate))
    if result.rate < 0.97 * bench.rate:
        bench.failures.append(f"{peer.name}: held {result.rate:.0f} of {bench.rate} requests a second")
    return {"p99": result.p99 * 1e6, "rate": result.rate, BUSY: watch.figures(result)[BUSY]}


def idle_round(bench: Bench, peer: Peer, secure: bool = False) -> dict[str, float]:
    """The memory that each idle keep-alive connection adds, after one request on it; with TLS if `secure`."""
    # The upstream connections and whatever is allocated once are there before the first look.
    load.wrk(peer.port, "/shop/1k", 1, LOAD_CORE)
    before = machine.resident_bytes(peer.process.pid)
    command = [sys.executable, str(Path(__file__).with_name("idle.py"))]
    if secure:
        load.handshakes(peer.secure_port, "/shop/1k", 1, LOAD_CORE, "full")
        before = machine.resident_bytes(peer.process.pid)
    port, way = (peer.secure_port, ["tls"]) if secure else (peer.port, [])
    arguments = [str(port), HOST, "/shop/1k", str(bench.idle), *way]
    holder = bench.processes.start("idle", command + arguments, LOAD_CORE, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
    bench.commands.setdefault(" ".join(["benches/compare_lib/idle.py PORT", *arguments[1:]]))
    if holder.stdout.readline().strip() != b"held":
        raise SystemExit(f"{peer.name}: the connections were not held (see idle.log)")
    after = machine.resident_bytes(peer.process.pid)
    holder.stdin.close()
    if holder.wait(30) != 0:
        raise SystemExit(f"{peer.name}: the connections were not held to the end (see idle.log)")
    return {"memory": (after - before) / bench.idle}


#: Requests that look for the old version after a change, each on one of four connections.
PROBES = 400


def change_round(bench: Bench, peer: Peer) -> dict[str, float]:
    """Two full loads, alike but that all traffic goes to green in the second: what that one change does to the p99,
    whether a request fails, and how long after the answer blue is still reached."""
    peer.set_weights(90, 10)
    watch = Watch(peer)
    before, _ = watched_load(bench, peer, lambda: None)
    # Of the first load alone: a reload of nginx' ends the process whose time is counted.
    busy = watch.figures(before)[BUSY]
    after, lag = watched_load(bench, peer, lambda: peer.set_weights(0, 100))
    peer.set_weights(90, 10)
    failed = float(before.failed + after.failed)
    return {"p99 before": before.p99 * 1e6, "p99 with it": after.p99 * 1e6, "failed": failed, "in force": lag,
            BUSY: busy}


def watched_load(bench: Bench, peer: Peer, change: Callable[[], None]) -> tuple[load.Load, float]:
    """A full load with something done a quarter into it, and probed afterwards, whether it was a change or not: the
    probes cost the same in both."""
    started = load.start_wrk(bench.processes, peer.port, "/shop/1k", bench.seconds, LOAD_CORE)
    clients = [Client(peer.port, HOST) for _ in range(4)]
    for client in clients:
        client.request("/shop/check")
    time.sleep(bench.seconds / 4)
    change()
    lag = last_seen(clients, "blue")
    result = load.finish_wrk(started)
    bench.commands.setdefault(result.command)
    return result, lag


def last_seen(clients: list[Client], version: str) -> float:
    """The milliseconds from now to when the last request was sent that a version still answered; 0 if none was."""
    now, last = time.monotonic(), 0.0
    for probe in range(PROBES):
        sent = time.monotonic()
        client = clients[probe % len(clients)]
        try:
            answer = client.request("/shop/check")
        except (OSError, HTTPException):
            # A proxy that closes its idle connections at a reload: the next request opens another.
            client.close()
            continue
        if answer.headers["x-version"] == version:
            last = (sent - now) * 1000
    for client in clients:
        client.close()
    return last


PLAIN_WORKS: tuple[Work, ...] = (
    Work("get-1k", "GET, 1 KB, 64 keep-alive connections",
         (Metric(CPU, "us", 2, "0.80 of each"), Metric("rate", "req/s", 0), SATURATED), cpu_round("/shop/1k")),
    Work("get-100k", "GET, 100 KB, 64 keep-alive connections",
         (Metric(CPU, "us", 2, "0.80 of haproxy"), Metric("rate", "req/s", 0), SATURATED), cpu_round("/shop/100k")),
    Work("new-connection", "GET, 1 KB, a new connection for each request",
         (Metric(CPU, "us", 2, "0.95 of the better"), Metric("rate", "req/s", 0), SATURATED),
         cpu_round("/shop/1k", close=True)),
    Work("latency", "GET, 1 KB, constant rate, half of the slower one's saturation",
         (Metric("p99", "us", 0, "at most theirs"), Metric("rate", "req/s", 0), Metric(BUSY, "%", 0)),
         latency_round, prepare=find_rate),
    Work("idle-memory", "idle keep-alive connections",
         (Metric("memory", "bytes each", 0, "2048 bytes"),), idle_round, fresh=True),
    Work("weight-change", "one weight change under full load",
         (Metric("p99 before", "us", 0), Metric("p99 with it", "us", 0, "as before"),
          Metric("failed", "requests", 0, "0"), Metric("in force", "ms after the answer", 2, "under 1 ms"),
          SATURATED),
         change_round),
)


def take_cores():
    """Makes sure that both cores are ours to use, and leaves the proxies' core to them."""
    if not {PROXY_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("two cores are needed: one for the proxy, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})
