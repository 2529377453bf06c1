"""The authors' networks, from a checkout that the person who measures gives.

Only torch is imported here, so that it works on a machine that has nothing else. Their networks
need ``einops``; where that is missing, `rearranged` does what it would do. HINT's file imports
names of ``scikit-learn`` that it never uses.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

AUTHORS = {"restormer": ("restormer_arch.py", "Restormer"), "hint": ("HINT_arch.py", "HINT")}


def authors_class(checkout: Path, network: str) -> type[nn.Module]:
    """The network's class in their repository."""
    if network not in AUTHORS:
        sys.exit(f"there is no authors' code for {network}; --authors goes with {list(AUTHORS)}")
    file, name = AUTHORS[network]
    path = checkout / "basicsr" / "models" / "archs" / file
    spec = importlib.util.spec_from_file_location("authors", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"no {name} in {checkout}: expected {path}")
    for missing in ("einops", "sklearn"):
        if missing not in sys.modules and importlib.util.find_spec(missing) is None:
            sys.modules.update(STAND_INS[missing])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def without_memory(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network as a function of its input alone: HINT's carries a cache between images."""

    @torch.no_grad()
    def evaluate(x: Tensor) -> Tensor:
        if hasattr(network, "qv_cache"):
            network.qv_cache = None
        return network(x)

    return evaluate


def rearranged(x: Tensor, pattern: str, **lengths: int) -> Tensor:
    """What ``einops.rearrange`` does, for names and one level of brackets.

    Args:
        x: Any shape that ``pattern`` describes.
        pattern: Such as ``b (head c) h w -> b head c (h w)``.
        lengths: Of the names that brackets on the left leave open, all but one.
    """
    left, right = (_axes(side) for side in pattern.split("->"))
    shape = []
    for names, length in zip(left, x.shape, strict=True):
        known = [lengths.get(name, -1) for name in names]
        shape += [length] if len(names) == 1 else list(x.new_empty(length).view(known).shape)
    names = [name for axis in left for name in axis]
    order = [names.index(name) for axis in right for name in axis]
    y = x.reshape(shape).permute(order)
    ends, start = [], 0
    for axis in right:
        ends.append(y.shape[start : start + len(axis)].numel())
        start += len(axis)
    return y.reshape(ends)


def _axes(side: str) -> list[list[str]]:
    """``b (h w) c`` → [[b], [h, w], [c]]."""
    axes: list[list[str]] = []
    inside = False
    for word in side.replace("(", " ( ").replace(")", " ) ").split():
        if word in "()":
            inside = word == "("
            axes += [[]] if inside else []
        elif inside:
            axes[-1].append(word)
        else:
            axes.append([word])
    return axes


class StandIn(ModuleType):
    """A module for names that are imported and not used, and for ``rearrange``."""

    def __getattr__(self, name: str) -> Callable[..., Tensor] | None:
        return rearranged if name == "rearrange" else None


STAND_INS = {
    "einops": {"einops": StandIn("einops")},
    "sklearn": {
        name: StandIn(name)
        for name in ("sklearn", "sklearn.cluster", "sklearn.metrics", "sklearn.metrics.pairwise",
                     "sklearn.impute")
    },
}  # fmt: skip
