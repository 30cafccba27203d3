"""The works over TLS, by HTTP/1.1 and HTTP/2."""

from collections.abc import Callable

from . import load
from .peers import Peer
from .works import CPU, LOAD_CORE, SATURATED, Bench, Metric, Watch, Work, idle_round


def stream_round(path: str, connections: int, streams: int) -> Callable[[Bench, Peer], dict[str, float]]:
    """A round that measures the CPU time of the proxy for each request of a full load over kept TLS connections."""

    def measure(bench: Bench, peer: Peer) -> dict[str, float]:
        load.h2load(peer.secure_port, path, 1, LOAD_CORE, connections, streams)
        watch = Watch(peer)
        result = load.h2load(peer.secure_port, path, bench.seconds, LOAD_CORE, connections, streams)
        return {**watch.figures(bench.keep(peer, result)), "rate": result.rate}

    return measure


def handshake_round(kind: str) -> Callable[[Bench, Peer], dict[str, float]]:
    """A round that measures the CPU time of the proxy for each TLS connection with one request on it."""

    def measure(bench: Bench, peer: Peer) -> dict[str, float]:
        load.handshakes(peer.secure_port, "/shop/1k", 1, LOAD_CORE, kind)
        watch = Watch(peer)
        result = load.handshakes(peer.secure_port, "/shop/1k", bench.seconds, LOAD_CORE, kind)
        return {PER_CONNECTION: watch.figures(bench.keep(peer, result))[CPU], "rate": result.rate}

    return measure


PER_CONNECTION = "CPU per connection"


def cpu_metrics(target: str) -> tuple[Metric, ...]:
    """What a full load is judged by."""
    return Metric(CPU, "us", 2, target), Metric("rate", "req/s", 0), SATURATED


def connection_metrics(target: str) -> tuple[Metric, ...]:
    """What connections are judged by. One client makes them, one after the other: no proxy is busy."""
    return Metric(PER_CONNECTION, "us", 0, target), Metric("rate", "connections/s", 0)


SECURE_WORKS: tuple[Work, ...] = (
    Work("https-1k", "GET, 1 KB, TLS, HTTP/1.1, 64 keep-alive connections", cpu_metrics("0.75 of the better"),
         stream_round("/shop/1k", 64, 1)),
    Work("h2-1k", "GET, 1 KB, TLS, HTTP/2, 16 connections x 16 streams", cpu_metrics("0.90 of the better"),
         stream_round("/shop/1k", 16, 16)),
    Work("h2-100k", "GET, 100 KB, TLS, HTTP/2, 16 connections x 16 streams", cpu_metrics(""),
         stream_round("/shop/100k", 16, 16)),
    Work("handshake", "a full TLS handshake (ECDSA P-256) and a GET of 1 KB", connection_metrics("0.50 of the better"),
         handshake_round("full")),
    Work("resumption", "a resumed TLS handshake and a GET of 1 KB", connection_metrics("1.00 of the better"),
         handshake_round("resumed")),
    Work("idle-tls", "idle keep-alive connections with TLS",
         (Metric("memory", "bytes each", 0, "16384 bytes, and under both"),),
         lambda bench, peer: idle_round(bench, peer, secure=True), fresh=True),
)
