"""Bundle a spectral network: ``python -m training.spectral.export checkpoint.pt -o FILE``.

Writes the averaged weights in float16 with what they are in the metadata, and prints size and
sha256. What rounding costs is seen by scoring both with ``training.spectral.evaluate``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

DATA = "CAVE (Yasuma et al., 2008), 24 of 31 scenes at half size, see training/spectral/data.py"


def write(checkpoint: Path, output: Path) -> None:
    """Convert, and print size and sha256."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    stored = {key: value.half().contiguous() for key, value in state["average"].items()}
    metadata = {
        "network": state["kind"]["name"],
        "options": json.dumps(state["kind"]["options"]),
        "recipe": json.dumps(state["recipe"]),
        "steps_done": str(state["step"]),
        "data": DATA,
    }
    safetensors.torch.save_file(stored, output, metadata)
    data = output.read_bytes()
    print(f"size_bytes = {len(data)}\nsha256 = {hashlib.sha256(data).hexdigest()!r}")


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    write(args.checkpoint, args.output)


if __name__ == "__main__":
    main()
