"""The report: a table in Markdown, and how it was made."""

from collections.abc import Iterable
from statistics import median

from . import machine
from .peers import Peer
from .works import Bench, Metric, Work

#: By work, metric and peer: one figure for each round.
Results = dict[str, dict[str, dict[str, list[float]]]]

OURS = "switchback"


def record(results: Results, work: Work, peer: Peer, figures: dict[str, float]):
    """Adds the figures of a round."""
    of_work = results.setdefault(work.name, {})
    for metric, figure in figures.items():
        of_work.setdefault(metric, {}).setdefault(peer.name, []).append(figure)


def table(results: Results, works: Iterable[Work], peers: list[str]) -> str:
    """The figures: medians with the least and the most, and ours as a share of each other's."""
    others = [peer for peer in peers if peer != OURS] if OURS in peers else []
    head = ["work", "figure", *peers, *(f"{OURS} / {other}" for other in others), "to reach"]
    lines = [row(head), row(["---"] * len(head))]
    for work in works:
        for metric in work.metrics:
            measured = results.get(work.name, {}).get(metric.name)
            if measured:
                cells = [work.title, f"{metric.name}, {metric.unit}"]
                cells += [cell(measured.get(peer, []), metric) for peer in peers]
                cells += [ratio(measured.get(OURS, []), measured.get(other, [])) for other in others]
                lines.append(row([*cells, metric.target]))
    return "\n".join(lines)


def method(bench: Bench, peers: list[Peer], rounds: int, arguments: list[str]) -> str:
    """How the figures were made: the machine, the versions, the commands."""
    lines = [
        f"Machine: {machine.describe()}.",
        f"Rounds: {rounds} of {bench.seconds:g} s for each proxy, interleaved; medians, in brackets the least and the most.",
        "Versions: " + "; ".join(f"{peer.name}: {peer.version()}" for peer in peers) + ".",
    ]
    if bench.rate:
        lines.append(f"Constant rate (RATE, work \"latency\"): {bench.rate} requests a second.")
    lines += [peer.note for peer in peers if peer.note]
    commands = [" ".join(["benches/compare", *arguments]), *bench.commands]
    return "\n\n".join(lines) + "\n\n```\n" + "\n".join(commands) + "\n```"


def row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def cell(figures: list[float], metric: Metric) -> str:
    """The median of the rounds, and their range."""
    if not figures:
        return "-"
    middle, least, most = (f"{figure:,.{metric.digits}f}" for figure in (median(figures), min(figures), max(figures)))
    return f"{middle} ({least} to {most})" if len(figures) > 1 else middle


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The medians' ratio; none where a median is 0."""
    if not ours or not theirs or median(theirs) == 0:
        return "-"
    return f"{median(ours) / median(theirs):.2f}"
