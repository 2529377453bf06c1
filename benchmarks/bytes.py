"""Which bytes does every bundled network make? ``python -m benchmarks.bytes PICTURE…``.

Prints a line for each network, task and picture: the sha256 of the result, or of all results of a
folder one by one. The same lines before and after a change say that it changed no byte:
``python -m benchmarks.bytes examples/*.png > before.txt``, then ``diff before.txt after.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def command(*arguments: object) -> str:
    """What `restore` says on stdout; raises if it fails."""
    told = subprocess.run(
        [sys.executable, "-m", "restorecli", *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return told.stdout


def bundled() -> list[tuple[str, str]]:
    """(id, task) of every network in the package."""
    models = json.loads(command("models", "list", "--json"))["models"]
    return [
        (model["id"], task)
        for model in models
        if model["source"].startswith("bundled:")
        for task in model["tasks"]
    ]


def main() -> None:
    """Restore every picture by every bundled network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for model, task in bundled():
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "out"
            command(
                task, *options.pictures, "--model", model, "-o", out,
                "--threads", options.threads, "--quiet",
            )  # fmt: skip
            for result in sorted(path for path in out.iterdir() if path.name[0] != "."):
                digest = hashlib.sha256(result.read_bytes()).hexdigest()
                print(model, task, result.name, digest, flush=True)


if __name__ == "__main__":
    main()
