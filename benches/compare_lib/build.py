"""Builds this tree's programs as they are released, and finds them."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def executable(kind: str, name: str) -> str:
    """The path of a target of ours ("bin" or "bench"), built now if it is not up to date."""
    # Cargo says where: the target folder is the environment's to choose, and a benchmark's name has a hash in it.
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--message-format=json-render-diagnostics",
               f"--{kind}", name]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return parse_artifacts(done.stdout, kind, name)


def parse_artifacts(text: str, kind: str, name: str) -> str:
    """Reads from cargo's messages where it has put a target."""
    for message in map(json.loads, text.splitlines()):
        target = message.get("target", {})
        if message["reason"] == "compiler-artifact" and target["name"] == name and kind in target["kind"]:
            if path := message.get("executable"):
                return path
    raise SystemExit(f"cargo has built no {kind} {name}")
