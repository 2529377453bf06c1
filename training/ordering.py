"""One order of channels for HINT: ``python -m training.ordering TASK FILE --photos DIR -o OUT``.

HINT orders channels anew for every picture (section 3.2), which is discontinuous: where two
channels are equally alike to the others, rounding decides, and the picture changes by several
levels. Here each channel takes the place that it has on average on samples of the task, and
`HINT` without ``sort_channels`` then needs no order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from restorecli.networks.hint import HINT, HierarchicalAttention, channel_order
from training.data import Batches, add_sources, load_pairs, load_photographs
from training.tasks import TASKS

PATCH_PX, SAMPLES = 256, 64


def main() -> None:
    """Parse the command line, and write the network with its channels in their mean order."""
    parser = argparse.ArgumentParser(prog="python -m training.ordering", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("file", type=Path, help="safetensors of a network that orders channels")
    add_sources(parser)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    task = TASKS[options.task]
    tensors = safetensors.torch.load_file(options.file)
    network = HINT(**{**task.options, "sort_channels": True}).eval()
    network.load_state_dict(tensors)
    batches = Batches(
        load_photographs(*options.photos),
        task,
        seed=0,
        pairs=[pair for source in options.pairs for pair in load_pairs(source)],
        patch_px=PATCH_PX,
        size=1,
    )
    pictures = (batches[step][0].float() / 255 for step in range(options.samples))
    orders = mean_orders(network, pictures)
    safetensors.torch.save_file(ordered(tensors, orders), options.output, description(options.file))


def description(file: Path) -> dict[str, str]:
    """What ``file`` says of itself, for channels that are not sorted any more."""
    with safe_open(file, "pt") as opened:
        said = dict(opened.metadata() or {})
    if "options" in said:
        said["options"] = json.dumps({**json.loads(said["options"]), "sort_channels": False})
    return said


def mean_orders(network: HINT, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """Channels of every attention by their mean place over ``pictures``.

    Shape:
        pictures: (1, 3, H, W) each → of each attention, by its name: (C,), int64.
    """
    places: dict[str, list[Tensor]] = {}

    def noting(name: str) -> Callable[[nn.Module, Any], None]:
        def note(attention: nn.Module, inputs: Any) -> None:
            order = order_of(cast(HierarchicalAttention, attention), inputs[0])
            places.setdefault(name, []).append(order.argsort().double())

        return note

    for name, module in network.named_modules():
        if isinstance(module, HierarchicalAttention):
            module.register_forward_pre_hook(noting(name))
    with torch.inference_mode():
        for picture in pictures:
            network(picture)
    return {k: torch.stack(v).mean(0).argsort(stable=True) for k, v in places.items()}


def order_of(attention: HierarchicalAttention, x: Tensor) -> Tensor:
    """The order that ``attention`` gives its channels: (1, C, H, W) → (C,), int64."""
    channels = x.shape[1]
    query = attention.qkv_dwconv(attention.qkv(x))[0, :channels].flatten(1)  # (C, N)
    gram, sums = query @ query.mT, query.sum(1)
    return channel_order(gram[None], sums[None], query.shape[1])[0]


def ordered(tensors: dict[str, Tensor], orders: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network whose queries, keys and values lie in these orders."""
    result = dict(tensors)
    for name, order in orders.items():
        every = torch.cat([order + part * len(order) for part in range(3)])  # (3·C,)
        for key in ("qkv.weight", "qkv.bias", "qkv_dwconv.weight", "qkv_dwconv.bias"):
            if (whole := f"{name}.{key}") in result:
                result[whole] = result[whole][every].contiguous()
    return result


if __name__ == "__main__":
    main()
