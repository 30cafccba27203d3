"""Builds this tree's programs as they are released, and finds them."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def executable(name: str, package: str = "") -> str:
    """The path of a program of ours, or of a package in a folder of ours, built now if it is not up to date."""
    # Cargo says where: the target folder is the environment's to choose.
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--message-format=json-render-diagnostics",
               "--bin", name]
    done = subprocess.run(command, cwd=ROOT / package, stdout=subprocess.PIPE, text=True, check=True)
    return parse_artifacts(done.stdout, name)


def parse_artifacts(text: str, name: str) -> str:
    """Reads from cargo's messages where it has put a program."""
    for message in map(json.loads, text.splitlines()):
        target = message.get("target", {})
        if message["reason"] == "compiler-artifact" and target["name"] == name and "bin" in target["kind"]:
            if path := message.get("executable"):
                return path
    raise SystemExit(f"cargo has built no {name}")
