"""Makes one TLS connection after the other for some seconds, with a request on each; prints what was done as JSON.

Usage: handshakes.py PORT HOST PATH SECONDS full|resumed. A process of its own, so that its time is not the proxy's.
"""

import json
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compare_lib.client import read_answer, secured, trusting


def main():
    """Makes the connections."""
    port, host, path, seconds = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    resumes = sys.argv[5] == "resumed"
    context = trusting()
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    session, done, began = None, 0, time.monotonic()
    while time.monotonic() < began + seconds:
        with secured(port, host, 10, context, session) as connection:
            connection.sendall(request)
            if not read_answer(connection).startswith(b"HTTP/1.1 200 "):
                raise SystemExit("an answer was not 200")
            if connection.session_reused != (session is not None):
                raise SystemExit("a connection was resumed that was not to be, or the other way round")
            if resumes:
                # A ticket of TLS 1.3 comes after the handshake: with the answer at the latest.
                session = connection.session
        done += 1
    print(json.dumps({"connections": done, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
