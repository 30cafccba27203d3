"""A small HTTP/1.1 client for checks, probes and counted requests: one keep-alive connection, one request at a time."""

import http.client
import socket
import ssl
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection to a proxy, which is asked for one host."""

    def __init__(self, port: int, host: str, timeout: float = 5):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._host = host

    def request(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Sends a request and reads the whole answer."""
        self._connection.request(method, path, body=body, headers={"Host": self._host, **headers})
        response = self._connection.getresponse()
        body_read = response.read()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, body_read)

    def close(self):
        """Closes the connection."""
        self._connection.close()


class SecureClient(Client):
    """The same over TLS, with the server's name said and its certificate taken as it is."""

    def __init__(self, port: int, host: str, timeout: float = 5):
        super().__init__(port, host, timeout)
        self._connection.sock = secured(port, host, timeout)
        #: The version of TLS that was agreed on.
        self.version = self._connection.sock.version()


def trusting() -> ssl.SSLContext:
    """What a client needs that asks no questions: the certificate is the run's own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def secured(port: int, host: str, timeout: float, context: ssl.SSLContext | None = None,
            session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection whose handshake is done; resumed, if a session is given and the server takes it."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return (context or trusting()).wrap_socket(plain, server_hostname=host, session=session)


def answers(port: int, host: str, path: str) -> bool:
    """Whether a request is answered with 200."""
    client = Client(port, host, timeout=2)
    try:
        return client.request(path).status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def read_answer(connection: socket.socket) -> bytes:
    """Reads one answer that has a Content-Length from a plain socket; answers all of its bytes."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":", 1)[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if len(lengths) != 1:
        raise ConnectionError(f"an answer without a length: {head[:200]!r}")
    while len(body) < int(lengths[0]):
        part = receive(connection)
        received += part
        body += part
    return received


def receive(connection: socket.socket) -> bytes:
    """The next bytes; an end of file is an error."""
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("closed before the answer's end")
    return part
