"""Bundle a checkpoint: ``python -m training.export runs/derain/checkpoint.pt -o FILE``.

Writes the averaged weights as float16 safetensors, with what they are in the metadata, and prints
the lines that ``weights.toml`` needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from training.tasks import TASKS


def main() -> None:
    """Convert and report size and sha256."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    task = TASKS[state["recipe"]["task"]]
    metadata = {
        "network": task.network,
        "options": json.dumps(dict(task.options)),
        "task": state["recipe"]["task"],
        "recipe": json.dumps(state["recipe"]),
        "steps_done": str(state["step"]),
    }
    half = {key: value.to(torch.float16).contiguous() for key, value in state["average"].items()}
    data = safetensors.torch.save(half, metadata)
    args.output.write_bytes(data)
    print(f"size_bytes = {len(data)}")
    print(f'sha256 = "{hashlib.sha256(data).hexdigest()}"')


if __name__ == "__main__":
    main()
