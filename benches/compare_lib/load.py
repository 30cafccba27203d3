"""The load generators, pinned to their core, and what they report.

wrk and h2load drive closed loops at full speed; oha drives a constant rate and counts the time that a request waited to
be sent (coordinated omission).
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .upstream import HOST


@dataclass(frozen=True)
class Load:
    """What a load generator counted."""

    requests: int
    failed: int
    seconds: float
    p99: float
    command: str

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds


def wrk(port: int, path: str, seconds: float, core: int, connections: int = 64, close: bool = False) -> Load:
    """As many requests as the connections can carry; with `close`, a new connection for each."""
    command = wrk_command(port, path, seconds, connections, ["-H", "Connection: close"] if close else [])
    return parse_wrk(run(machine.pinned(command, core), seconds), shown(command))


def h2load(port: int, path: str, seconds: float, core: int, connections: int, streams: int) -> Load:
    """As many requests as the connections can carry over TLS: by HTTP/2, or by HTTP/1.1 where there is no stream beside
    another."""
    # Without an authority in the address it would name the host as an address, and be sent to no route.
    command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(streams), "-D", str(max(1, round(seconds))),
               *(["--h1"] if streams == 1 else []), f"--connect-to=127.0.0.1:{port}", f"https://{HOST}{path}"]
    return parse_h2load(run(machine.pinned(command, core), seconds), shown(command))


def handshakes(port: int, path: str, seconds: float, core: int, kind: str) -> Load:
    """One TLS connection after the other with a request on each, `full` or `resumed`."""
    script = Path(__file__).with_name("handshakes.py")
    arguments = [str(port), HOST, path, str(seconds), kind]
    report = json.loads(run(machine.pinned([sys.executable, str(script), *arguments], core), seconds))
    command = f"benches/compare_lib/handshakes.py PORT {HOST} {path} {seconds:g} {kind}"
    return Load(report["connections"], 0, report["seconds"], 0.0, command)


def oha_rate(port: int, path: str, seconds: float, core: int, rate: int, connections: int = 64) -> Load:
    """A constant rate, each request's time counted from when it should have been sent."""
    # `-w` lets what is on its way at the end be answered.
    command = ["oha", "--no-tui", "--no-color", "--worker-threads", "1", "-w", "-c", str(connections),
               "-z", f"{max(1, round(seconds))}s", "-q", str(rate), "--latency-correction", "--host", HOST,
               "--output-format", "json", f"http://127.0.0.1:{port}{path}"]
    return parse_oha(run(machine.pinned(command, core), seconds), shown(command))


def start_wrk(processes: machine.Processes, port: int, path: str, seconds: float, core: int):
    """Starts a full load beside which something else happens; `finish_wrk` waits for it."""
    command = wrk_command(port, path, seconds, 64, [])
    return processes.start("full-load", command, core, stdout=subprocess.PIPE), command, seconds


def finish_wrk(started) -> Load:
    """Waits for a load that `start_wrk` started."""
    return parse_wrk(finish(*started), shown(started[1]))


def finish(process: subprocess.Popen, command: list[str], seconds: float) -> str:
    """Waits for a load generator's end, which must come, and answers what it wrote."""
    try:
        output, _ = process.communicate(timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{shown(command)} did not end in time") from None
    return output.decode()


def wrk_command(port: int, path: str, seconds: float, connections: int, fields: list[str]) -> list[str]:
    """The words of a load by wrk."""
    return ["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--latency",
            "-H", f"Host: {HOST}", *fields, f"http://127.0.0.1:{port}{path}"]


def run(command: list[str], seconds: float) -> str:
    """Runs a load generator to its end, which must come."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{shown(command)} did not end in time") from None
    if done.returncode != 0:
        raise SystemExit(f"{shown(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def shown(command: list[str]) -> str:
    """A command as a person would type it, the port and the rate left open."""
    words = [re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", word) for word in command]
    if "-q" in words:
        words[words.index("-q") + 1] = "RATE"
    return " ".join(f"'{word}'" if " " in word else word for word in words)


UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_wrk(text: str, command: str) -> Load:
    """Reads wrk's report."""
    totals = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)", text)
    p99 = re.search(r"^\s*99%\s+([\d.]+)(us|ms|s|m|h)", text, re.MULTILINE)
    if not totals or not p99:
        raise SystemExit(f"wrk's report is not understood:\n{text}")
    failed = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    for line in re.findall(r"Socket errors: (.*)", text):
        failed += sum(int(count) for count in re.findall(r"\d+", line))
    return Load(int(totals[1]), failed, float(totals[2]) * UNITS[totals[3]], float(p99[1]) * UNITS[p99[2]], command)


def parse_h2load(text: str, command: str) -> Load:
    """Reads h2load's report. It has no 99th percentile."""
    totals = re.search(r"finished in ([\d.]+)(us|ms|s|m|h)", text)
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded", text)
    statuses = re.search(r"status codes: (\d+) 2xx", text)
    if not totals or not counts or not statuses:
        raise SystemExit(f"h2load's report is not understood:\n{text}")
    done, good = int(counts[1]), min(int(counts[2]), int(statuses[1]))
    return Load(good, done - good, float(totals[1]) * UNITS[totals[2]], 0.0, command)


def parse_oha(text: str, command: str) -> Load:
    """Reads oha's JSON."""
    report = json.loads(text)
    statuses = report["statusCodeDistribution"]
    good = sum(count for status, count in statuses.items() if status.startswith("2"))
    failed = sum(statuses.values()) - good + sum(report["errorDistribution"].values())
    p99 = report["latencyPercentiles"]["p99"]
    if p99 is None:
        raise SystemExit(f"{command}: nothing was answered: {report['errorDistribution']}")
    return Load(good, failed, report["summary"]["total"], p99, command)
