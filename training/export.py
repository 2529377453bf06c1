"""Bundle trained weights: ``python -m training.export FILE --photos SOURCE … -o FILE``.

Takes a checkpoint of `training.train`, or what its ``--export`` wrote, and writes the averaged
weights as safetensors in float16, with what they are in the metadata, and prints the lines that
``weights.toml`` needs. Float16 must lower the PSNR of samples that training never saw by less than
``LARGEST_LOSS_DB``, or nothing is written; ``--float32`` keeps the weights as they are. A short
training can be taken in part: ``--start FILE --start-share 0.35`` writes the mean of the weights
with those that it started from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from restorecli.networks import NETWORKS
from training.data import Batches, load_photographs
from training.tasks import Task, task_of
from training.train import UNSEEN_STEP

LARGEST_LOSS_DB = 0.02
SAMPLES, SAMPLE_PX = 8, 128

State = Mapping[str, Tensor]


def load(path: Path) -> tuple[State, dict[str, Any], str]:
    """Averaged weights, their recipe, and the steps done, if known."""
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return state, json.loads(metadata["recipe"]), metadata.get("steps_done", "unknown")
    kept = torch.load(path, map_location="cpu", weights_only=True)
    return kept["average"], kept["recipe"], str(kept["step"])


def stated_options(path: Path) -> dict[str, Any]:
    """The network's options that a safetensors file states: a bundled one keeps its own."""
    if path.suffix != ".safetensors":
        return {}
    with safetensors.safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata().get("options", "{}"))
    return found


def psnr_of(task: Task, weights: State, degraded: Tensor, clean: Tensor) -> float:
    """PSNR of the restored batch over all its values, in dB: uint8 (B, 3, H, W) each."""
    network = NETWORKS[task.network](**task.options, **task.in_use).eval()
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    with torch.inference_mode():
        error = (network(degraded.float() / 255).clamp(0, 1) - clean / 255).square().mean()
    return float(-10 * torch.log10(error))


def mean_of(trained: State, start: State, start_share: float) -> State:
    """Weights between those of ``start`` and ``trained``, in float32."""
    return {k: v.float().lerp(start[k].float(), start_share) for k, v in trained.items()}


def of_bfloat16(value: Tensor) -> Tensor:
    """A kernel whose values bfloat16 holds, in its own dtype; norms and biases as they are."""
    return value.bfloat16().to(value.dtype) if value.dim() > 1 else value


def describe(sources: Sequence[Path]) -> str:
    """How many photographs there are, and a hash of their pixels in order."""
    digest, count = hashlib.sha256(), 0
    for source in sources:
        for picture in load_photographs(source):
            digest.update(picture.tobytes())
            count += 1
    return f"{count} photographs, sha256 of their pixels {digest.hexdigest()}"


def main() -> None:
    """Check, convert, and report size and sha256."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="those it was trained on"
    )
    parser.add_argument("--start", type=Path, help="safetensors file that it was trained from")
    parser.add_argument("--start-share", type=float, default=0.0, help="of it in the mean, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--float32", action="store_true", help="twice the size, no rounding")
    parser.add_argument(
        "--bfloat16", action="store_true",
        help="kernels that bfloat16 holds exactly, so that both precisions have the same",
    )  # fmt: skip
    args = parser.parse_args()
    average, recipe, steps = load(args.trained)
    if args.start:
        average = mean_of(average, safetensors.torch.load_file(args.start), args.start_share)
    task = task_of(recipe["task"], recipe.get("network", ""))
    task = replace(task, options=stated_options(args.trained) or task.options)
    dtype = torch.float32 if args.float32 else torch.float16
    stored = {key: value.to(dtype).contiguous() for key, value in average.items()}
    if args.bfloat16:
        stored = {key: of_bfloat16(value) for key, value in stored.items()}

    photographs = [p for source in args.photos for p in load_photographs(source)]
    batches = Batches(photographs, task, recipe["seed"], patch_px=SAMPLE_PX, size=SAMPLES)
    samples = batches[UNSEEN_STEP]
    trained_db, stored_db = (psnr_of(task, w, *samples) for w in (average, stored))
    print(f"# {trained_db:.4f} dB as trained, {stored_db:.4f} dB as stored, on unseen samples")
    if not trained_db - stored_db <= LARGEST_LOSS_DB:  # also when it is not a number
        raise SystemExit(
            f"float16 loses more than {LARGEST_LOSS_DB} dB; nothing was written. Give --float32."
        )

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    metadata = {
        "network": task.network,
        "options": json.dumps({**task.options, **task.in_use}),
        "task": recipe["task"],
        "recipe": json.dumps(recipe),
        "steps_done": steps,
        **({"start_share": str(args.start_share)} if args.start else {}),
        "data": describe(args.photos),
        "commit": commit.stdout.strip() or "unknown",
    }
    data = safetensors.torch.save(stored, metadata)
    args.output.write_bytes(data)
    print(f"size_bytes = {len(data)}")
    print(f'sha256 = "{hashlib.sha256(data).hexdigest()}"')


if __name__ == "__main__":
    main()
