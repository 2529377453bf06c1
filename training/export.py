"""Bundle a checkpoint: ``python -m training.export checkpoint.pt --photos DIR -o FILE``.

Writes the averaged weights as safetensors, with what they are in the metadata, and prints the lines
that ``weights.toml`` needs. Float16 must lower the PSNR of samples that training never saw by less
than ``LARGEST_LOSS_DB``, or nothing is written; ``--float32`` keeps the weights as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from restorecli.networks import NETWORKS
from training.data import Batches, load_photographs
from training.tasks import Task, command_of, task_of

LARGEST_LOSS_DB = 0.02
UNSEEN_STEP = 10**9  # no run is as long, so its samples are new
SAMPLES, SAMPLE_PX = 8, 128


def psnr_of(task: Task, weights: Mapping[str, Tensor], degraded: Tensor, clean: Tensor) -> float:
    """PSNR of the restored batch (B, 3, H, W) over all its values, in dB."""
    network: nn.Module = NETWORKS[task.network](**task.options).eval()
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    with torch.inference_mode():
        error = (network(degraded).clamp(0, 1) - clean).square().mean()
    return float(-10 * torch.log10(error))


def describe_photographs(folder: Path) -> str:
    """How many there are and a hash of their bytes, in order of their names."""
    digest, count = hashlib.sha256(), 0
    for path in sorted(folder.iterdir()):
        digest.update(path.read_bytes())
        count += 1
    return f"{count} photographs, sha256 of all {digest.hexdigest()}"


def main() -> None:
    """Check, convert, and report size and sha256."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="those it was trained on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--float32", action="store_true", help="twice the size, no rounding")
    args = parser.parse_args()
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    recipe = state["recipe"]
    task = task_of(recipe["task"], recipe.get("network", ""))
    dtype = torch.float32 if args.float32 else torch.float16
    stored = {key: value.to(dtype).contiguous() for key, value in state["average"].items()}

    batches = Batches(load_photographs(args.photos), task, recipe["seed"])
    samples = batches.batch(UNSEEN_STEP, SAMPLES, SAMPLE_PX)
    trained_db, stored_db = (psnr_of(task, w, *samples) for w in (state["average"], stored))
    print(f"# {trained_db:.4f} dB as trained, {stored_db:.4f} dB as stored, on unseen samples")
    if not trained_db - stored_db <= LARGEST_LOSS_DB:  # also when it is not a number
        raise SystemExit(
            f"float16 loses more than {LARGEST_LOSS_DB} dB; nothing was written. Give --float32."
        )

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    metadata = {
        "network": task.network,
        "options": json.dumps(dict(task.options)),
        "task": command_of(recipe["task"]),
        "recipe": json.dumps(recipe),
        "steps_done": str(state["step"]),
        "data": describe_photographs(args.photos),
        "commit": commit.stdout.strip() or "unknown",
    }
    data = safetensors.torch.save(stored, metadata)
    args.output.write_bytes(data)
    print(f"size_bytes = {len(data)}")
    print(f'sha256 = "{hashlib.sha256(data).hexdigest()}"')


if __name__ == "__main__":
    main()
