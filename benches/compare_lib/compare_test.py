"""Tests of the harness itself: a figure is only as good as what reads it."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace

from compare_lib import build, callgrind, load, machine, report
from compare_lib.works import BUSY, CPU, Metric, Watch

WRK = """\
Running 1s test @ http://127.0.0.1:19871/1k
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   238.05us  156.70us   2.88ms   76.86%
    Req/Sec    14.64k     2.23k   17.46k    63.64%
  Latency Distribution
     50%  212.00us
     75%  318.00us
     90%  411.00us
     99%    1.50ms
  16009 requests in 1.10s, 19.22MB read
"""


class Reports(unittest.TestCase):
    """What the load generators say."""

    def test_wrk(self):
        read = load.parse_wrk(WRK, "wrk")
        self.assertEqual((read.requests, read.failed), (16009, 0))
        self.assertAlmostEqual(read.seconds, 1.10)
        self.assertAlmostEqual(read.p99, 0.0015)
        self.assertAlmostEqual(read.rate, 16009 / 1.10)

    def test_wrk_failures_are_counted(self):
        bad = WRK + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
        self.assertEqual(load.parse_wrk(bad, "wrk").failed, 15)

    def test_wrk_that_says_nothing_is_refused(self):
        with self.assertRaises(SystemExit):
            load.parse_wrk("unable to connect", "wrk")

    def test_h2load(self):
        text = """finished in 500.00ms, 160.00 req/s, 9.83KB/s
requests: 90 total, 90 started, 86 done, 84 succeeded, 2 failed, 2 errored, 0 timeout
status codes: 80 2xx, 0 3xx, 0 4xx, 4 5xx
"""
        read = load.parse_h2load(text, "h2load")
        self.assertEqual((read.requests, read.failed, read.rate), (80, 6, 160.0))
        with self.assertRaises(SystemExit):
            load.parse_h2load("no connection was made", "h2load")

    def test_oha(self):
        text = """{"statusCodeDistribution": {"200": 90, "503": 4}, "errorDistribution": {"reset": 6},
                   "latencyPercentiles": {"p99": 0.002}, "summary": {"total": 2.0}}"""
        read = load.parse_oha(text, "oha")
        self.assertEqual((read.requests, read.failed, read.rate), (90, 10, 45.0))

    def test_commands_are_shown_without_what_differs_between_runs(self):
        shown = load.shown(["oha", "-H", "Host: a", "-q", "12300", "http://127.0.0.1:4711/shop/1k"])
        self.assertEqual(shown, "oha -H 'Host: a' -q RATE http://127.0.0.1:PORT/shop/1k")


class Tables(unittest.TestCase):
    """What is made of the figures."""

    def test_median_range_and_ratio(self):
        self.assertEqual(report.cell([3.0, 1.0, 2.0], Metric("cpu", "us", 1)), "2.0 (1.0 to 3.0)")
        self.assertEqual(report.ratio([4.0, 4.0, 9.0], [5.0]), "0.80")
        self.assertEqual(report.ratio([1.0], [0.0]), "-")
        self.assertEqual(report.cell([], Metric("cpu", "us", 1)), "-")


class Builds(unittest.TestCase):
    """What cargo says it has built."""

    def test_the_executable_of_the_named_target_is_found(self):
        def artifact(kind, name, path):
            return {"reason": "compiler-artifact", "target": {"kind": [kind], "name": name}, "executable": path}

        messages = [artifact("lib", "upstream", None), artifact("bin", "upstream", "/t/bin"),
                    artifact("bench", "upstream", "/t/upstream-0f"), {"reason": "build-finished", "success": True}]
        text = "\n".join(map(json.dumps, messages))
        self.assertEqual(build.parse_artifacts(text, "upstream"), "/t/bin")
        with self.assertRaises(SystemExit):
            build.parse_artifacts(text, "switchback")


class Instructions(unittest.TestCase):
    """What callgrind counted, and its bounds."""

    def test_the_last_totals_count(self):
        self.assertEqual(callgrind.total("events: Ir\nsummary: 5\n\ntotals: 12345\n"), 12345)
        with self.assertRaises(SystemExit):
            callgrind.total("events: Ir\n")

    def test_bounds_are_read_back_as_they_are_stored(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bounds"
            self.assertEqual(callgrind.read_bounds(file), {})
            file.write_text(f"# why\none-connection {callgrind.bound_for(8_000)}\n")
            self.assertEqual(callgrind.read_bounds(file), {"one-connection": 8250})


class Accounting(unittest.TestCase):
    """What the kernel says of a process."""

    def test_the_time_of_threads_and_children_is_counted(self):
        burn = "import time\nwhile time.process_time() < 0.2: pass"
        script = (
            "import subprocess, sys, threading, time\n"
            f"child = subprocess.Popen([sys.executable, '-c', {burn + chr(10) + 'print(1, flush=True); time.sleep(60)'!r}],"
            " stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print('burnt', flush=True)\ntime.sleep(60)\n"
        )
        with tempfile.TemporaryDirectory() as folder, machine.Processes(Path(folder)) as processes:
            process = processes.start("burn", [sys.executable, "-c", script], stdout=subprocess.PIPE)
            self.assertEqual(process.stdout.readline(), b"burnt\n")
            self.assertEqual(len(machine.tree(process.pid)), 2)
            self.assertGreater(machine.cpu_nanoseconds(process.pid), 0.19e9)

    def test_a_busy_process_is_told_from_an_idle_one(self):
        waits = "import sys, time\nprint(flush=True)\nsys.stdin.readline()\n"
        burns = waits + "while time.process_time() < 0.2: pass\nprint(flush=True)\ntime.sleep(60)\n"
        with tempfile.TemporaryDirectory() as folder, machine.Processes(Path(folder)) as processes:
            process = processes.start("burn", [sys.executable, "-c", burns], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
            process.stdout.readline()
            watch = Watch(SimpleNamespace(process=process))
            done = load.Load(requests=1000, failed=0, seconds=0.4, p99=0.0, command="")
            self.assertLess(watch.figures(done)[BUSY], 10)
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            # Of the 0.2 s it has spent some before it was watched, to start.
            figures = watch.figures(done)
            self.assertTrue(20 < figures[BUSY] < 60, figures)
            self.assertAlmostEqual(figures[CPU], figures[BUSY] * 4)

    def test_resident_memory_is_in_bytes(self):
        before = machine.resident_bytes(os.getpid())
        held = b"x" * 32_000_000
        self.assertAlmostEqual(machine.resident_bytes(os.getpid()) - before, len(held), delta=2_000_000)

    def test_what_was_started_is_ended_with_the_block(self):
        with tempfile.TemporaryDirectory() as folder:
            with machine.Processes(Path(folder)) as processes:
                process = processes.start("sleep", ["sleep", "60"])
                self.assertIsNone(process.poll())
            self.assertIsNotNone(process.poll())

    def test_waiting_ends(self):
        began = time.monotonic()
        with self.assertRaises(SystemExit):
            machine.wait_until("nothing", lambda: False, seconds=0.1)
        self.assertLess(time.monotonic() - began, 5)


if __name__ == "__main__":
    unittest.main()
