"""Opens many keep-alive connections, makes one request on each, says so, and holds them until its input ends.

Usage: idle.py PORT HOST PATH COUNT [tls]. A process of its own, so that its memory and its files are not the proxy's.
"""

import resource
import socket
import ssl
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compare_lib.client import read_answer, secured, trusting


def main():
    """Holds the connections."""
    port, host, path, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 32:
        raise SystemExit(f"{count} connections need more files than the limit of {soft} (ulimit -n)")
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    context = trusting() if sys.argv[5:] == ["tls"] else None
    held = []
    for _ in range(count):
        if context:
            connection = secured(port, host, 10, context)
        else:
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(request)
        if not read_answer(connection).startswith(b"HTTP/1.1 200 "):
            raise SystemExit("an answer was not 200")
        held.append(connection)
    print("held", flush=True)
    sys.stdin.read()
    # One that the proxy has closed meanwhile was not idle but gone, and would make the figure too small.
    for connection in held:
        connection.setblocking(False)
        try:
            connection.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            continue
        raise SystemExit("a connection was closed while it was to be held")


if __name__ == "__main__":
    main()
