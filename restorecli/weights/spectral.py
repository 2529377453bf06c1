"""Which spectral network a checkpoint is for, by its keys and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from restorecli.networks.regression import FEATURES
from restorecli.weights.registry import OptionValue

State = Mapping[str, Tensor]
CALIBRATION = ".calibration.dwconv.weight"


def spectral_network_of(state: State) -> str | None:
    """The spectral network whose own parts stand among the keys; ``None`` if it is none."""
    if "body.0.embedding.weight" in state:
        return "mst_plus_plus"
    if "embedding_1.weight" in state:
        return "mst_rgb"
    if "embedding.weight" in state and "encoder_layers.0.1.weight" in state:
        return "mst_cassi"
    if state.keys() == {"weight"} and state["weight"].shape[1:] == (FEATURES,):
        return "root_polynomial"
    return None


def spectral_options_of(name: str, state: State) -> dict[str, OptionValue]:
    """Constructor options that would give these keys and shapes, as far as one can tell.

    What a file lacks is left at its default: comparing it with the built network names it.
    """

    def size(key: str, axis: int, default: int) -> int:
        value = state.get(key)
        return value.shape[axis] if value is not None and value.dim() > axis else default

    def blocks(group: str) -> int:
        prefix = f"{group}.blocks."
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    if name == "root_polynomial":
        return {"out_channels": size("weight", 0, 31)}
    options: dict[str, OptionValue]
    if name == "mst_plus_plus":
        stages = {key.split(".")[1] for key in state if key.startswith("body.")}
        features = size("conv_in.weight", 0, 31)
        options = {
            "in_channels": size("conv_in.weight", 1, 3),
            "out_channels": size("conv_out.weight", 0, features),
            "n_feat": features,
            "stage": len(stages),
        }
        group = "body.0.encoder_layers.0.0"
    else:
        group = "encoder_layers.0.0"
        counted = [blocks(part) for part in (group, "encoder_layers.1.0", "bottleneck")]
        options = {"dim": size("mapping.weight", 0, 28), "num_blocks": counted}
        if name == "mst_rgb":
            options["in_channels"] = size("embedding_1.weight", 1, 3)
            options["out_channels"] = options["dim"]
    if any(key.endswith(CALIBRATION) for key in state):
        options |= _low_rank_options(state, f"{group}.blocks.0.0")
    return options


def _low_rank_options(state: State, block: str) -> dict[str, OptionValue]:
    """Ratio, kernel and position of GLMHA, from the first block and every other's kept channels."""
    kept = []  # (channels of a head, how many of them are kept)
    for key, value in state.items():
        if key.endswith(".to_k.weight") and value.dim() == 2:
            heads = len(state.get(key.replace("to_k.weight", "rescale"), [1]))
            kept.append((value.shape[1] // heads, value.shape[0] // heads))
    ratio = simplest(
        0.5, lambda r: all(max(1, round(c * (1 - r))) == few for c, few in kept), 0.999
    )
    kernels = {value.shape[-1] for key, value in state.items() if key.endswith(CALIBRATION)}
    options: dict[str, OptionValue] = {
        "attention": "glmha",
        "ratio": ratio,
        "kernel": min(kernels, default=3),
    }
    branch, keys = (state.get(f"{block}.{part}.weight") for part in ("pos_emb.0", "to_k"))
    if (
        branch is not None
        and keys is not None
        and branch.shape[0] == keys.shape[0] != keys.shape[1]
    ):
        options["position"] = "value"
    return options


def simplest(usual: float, fits: Callable[[float], bool], top: float) -> float:
    """The number with the fewest decimals in [0, top] that fits; ``usual`` first, and if none."""
    if fits(usual):
        return usual
    for decimals in (1, 2, 3, 4):
        step = 10**-decimals
        for i in range(math.floor(top / step) + 1):
            if fits(round(i * step, decimals)):
                return round(i * step, decimals)
    return usual
