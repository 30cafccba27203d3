"""User-mode instructions per request, counted by callgrind.

A proxy is run twice, with a short and with a long row of the same requests; start, warm-up and stop cancel in the
difference. The kernel's instructions are not in it, and neither is time: so the machine's other load does not matter,
and what is left repeats to about a per cent.
"""

import re
import socket
from pathlib import Path

from . import machine
from .client import read_answer
from .peers import Peer
from .upstream import HOST

REQUEST = f"GET /shop/1k HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: instructions/1\r\nAccept: */*\r\n\r\n".encode()
#: Requests before those that are counted: they open the upstream connections and fill what is filled once.
WARM_UP = 640
SHORT, LONG = 1_280, 3_840


#: By name: how many connections take turns. All that stand in one row are asked before the first is read.
LOADS = {"one-connection": 1, "many-connections": 64}


def per_request(processes: machine.Processes, peer: Peer, folder: Path, connections: int) -> float:
    """The instructions of one request."""
    short = counted(processes, peer, folder, connections, SHORT)
    return (counted(processes, peer, folder, connections, LONG) - short) / (LONG - SHORT)


def counted(processes: machine.Processes, peer: Peer, folder: Path, connections: int, requests: int) -> int:
    """All instructions of a run."""
    for old in folder.glob("callgrind.out.*"):
        old.unlink()
    # Each process that the proxy forks writes a file of its own.
    tool = ("valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={folder}/callgrind.out.%p")
    peer.start(processes, None, under=tool)
    drive(peer.port, connections, WARM_UP + requests)
    peer.stop(processes)
    totals = [total(out.read_text()) for out in folder.glob("callgrind.out.*")]
    if not totals:
        raise SystemExit(f"{peer.name}: callgrind has written nothing (see {folder}/{peer.name}.log)")
    return sum(totals)


def drive(port: int, connections: int, requests: int):
    """Sends the requests, as many at a time as there are connections."""
    held = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(connections)]
    for _ in range(requests // connections):
        for connection in held:
            connection.sendall(REQUEST)
        for connection in held:
            if not read_answer(connection).startswith(b"HTTP/1.1 200 "):
                raise SystemExit("an answer was not 200")
    for connection in held:
        connection.close()


def total(text: str) -> int:
    """The instructions in a file of callgrind's: the last of its totals."""
    found = re.findall(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if not found:
        raise SystemExit("a file of callgrind's has no totals")
    return int(found[-1])


def read_bounds(file: Path) -> dict[str, int]:
    """The stored bounds; none if there is no file."""
    if not file.exists():
        return {}
    lines = [line.split() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {name: int(bound) for name, bound in lines}


def bound_for(figure: float) -> int:
    """The bound that is stored for a measured figure: 3 % of room, in whole tens."""
    return int(figure * 1.03 / 10 + 1) * 10
