"""Processes on this machine: started pinned to a core, measured from the kernel's accounting, ended by their id.

Whatever `Processes` has started is ended when its `with` block is left, and by the kernel if this process is killed.
"""

import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path


class Processes:
    """The processes that were started and have not been ended yet."""

    def __init__(self, logs: Path):
        self._logs = logs
        self._running: list[subprocess.Popen] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(list(self._running)):
            self.end(process)

    def start(self, name: str, command: list[str], core: int | None = None, **options) -> subprocess.Popen:
        """Starts a command whose output goes to a log, unless `options` (of Popen) send it elsewhere."""
        with open(self._logs / f"{name}.log", "ab") as log:
            options.setdefault("stdout", log)
            options.setdefault("stderr", log)
            options.setdefault("stdin", subprocess.DEVNULL)
            process = subprocess.Popen(bound_to_us(pinned(command, core)), **options)
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen, patience: float = 10) -> int:
        """Asks a process to end, and makes it end if it does not; answers its exit code."""
        if process in self._running:
            self._running.remove(process)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        return process.wait()


def pinned(command: list[str], core: int | None) -> list[str]:
    """The command, bound to one core."""
    return command if core is None else ["taskset", "-c", str(core), *command]


def bound_to_us(command: list[str]) -> list[str]:
    """The command, such that the kernel ends it when we are gone."""
    return ["setpriv", "--pdeathsig", "TERM", *command] if shutil.which("setpriv") else command


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += tree(int(child))
    return pids


def cpu_nanoseconds(pid: int) -> int:
    """The time that all threads of a process, and of those below it, have spent on a core, user and kernel."""
    total = 0
    for member in tree(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def resident_bytes(pid: int) -> int:
    """The resident memory of a process and of those below it; what they share is counted for each."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, condition, process: subprocess.Popen | None = None, seconds: float = 30):
    """Waits for a condition, in vain if the process that it depends on has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise SystemExit(f"{what}: the process ended with {process.returncode}; see its log")
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def raise_file_limit(wanted: int):
    """Lets this process and those it starts hold more files: as many as wanted if root, else as many as allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return
        except (ValueError, OSError):
            continue


def end_on_signals():
    """Turns the signals that would end this process into an exit that leaves its `with` blocks."""

    def leave(number, _frame):
        raise SystemExit(f"ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)


def describe() -> str:
    """The machine in a line."""
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}, Linux {platform.release()}"
