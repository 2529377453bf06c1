"""Which network a checkpoint is for, found by comparing keys and shapes, and whether it fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from restorecli.errors import WeightsError
from restorecli.networks import NETWORKS, SPECTRAL_NETWORKS, Network, SpectralNetwork
from restorecli.networks.ends import CHANNELS_WITH_LUMA, PACKINGS, Ends
from restorecli.networks.glmha_restormer import PRESETS
from restorecli.weights.registry import Options, OptionValue
from restorecli.weights.spectral import simplest, spectral_network_of, spectral_options_of

State = Mapping[str, Tensor]
MOST_STAGES, MOST_BLOCKS, LARGEST_OPTION = 16, 64, 1024  # far above any published network
LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
CALIBRATION = "attn.calibration.dwconv.weight"


def architecture_of(
    path: Path, described: Mapping[str, str], state: State, name: str | None = None
) -> tuple[str, Options]:
    """Network and constructor options: as the file says of itself, else by keys and shapes.

    ``name`` is the user's word for the network; a file that says otherwise is refused.
    """
    stated = described.get("network")
    if stated is not None and name in {None, stated}:
        try:
            options = json.loads(described.get("options", "{}"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: its options are not JSON.") from error
        if not isinstance(options, dict):
            raise WeightsError(f"{path}: its options are not a table of names and values.")
        return stated, options
    if stated is not None:
        raise WeightsError(f"{path} says that it is for {stated}, not for {name}.")
    found = name or spectral_network_of(state) or _network_of(state)
    if found in SPECTRAL_NETWORKS:
        return found, spectral_options_of(found, state)
    return found, _options_of(found, state)


def as_published(state: State) -> State:
    """``state`` with kernels as (O, I, kH, kW), where a mirror for MLX has (O, kH, kW, I).

    A depth-wise 3×3 kernel shows which it is: (C, 1, 3, 3) or (C, 3, 3, 1).
    """
    swapped = any(
        key.endswith("dwconv.weight") and value.dim() == 4 and value.shape[1:] == (3, 3, 1)
        for key, value in state.items()
    )
    if not swapped:
        return state
    return {
        key: value.permute(0, 3, 1, 2).contiguous() if value.dim() == 4 else value
        for key, value in state.items()
    }


def build(path: Path, name: str, options: Options) -> Network | SpectralNetwork:
    """An empty network of that name and options; ``WeightsError`` when they are impossible."""
    if name not in NETWORKS:
        raise WeightsError(f"{path} is for an unknown network {name[:40]!r}.")
    if not all(_is_bounded(value) for value in options.values()):
        raise WeightsError(f"{path}: its options describe a network beyond all measure.")
    try:
        with torch.device("meta"):  # no time for random numbers that are overwritten at once
            constructor: Callable[..., Network | SpectralNetwork] = NETWORKS[name]
            return constructor(**options)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise WeightsError(f"{path}: its options do not fit {name}: {first}.") from error


def _is_bounded(value: object) -> bool:
    """Whether an option is a word, or small numbers; building what it describes ends soon."""
    if isinstance(value, (list, tuple)):  # blocks or heads of each level
        return len(value) <= MOST_STAGES and all(
            isinstance(part, int) and 0 <= part <= MOST_BLOCKS for part in value
        )
    if isinstance(value, (int, float)):
        return -1 <= value <= LARGEST_OPTION
    return value is None or (isinstance(value, str) and len(value) <= LARGEST_OPTION)


def fill(network: Network | SpectralNetwork, state: State, path: Path, name: str) -> None:
    """Assign ``state`` strictly, in float32: the first difference is named."""
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    for keys, what in ((missing, "missing"), (unknown, "unknown")):
        if keys:
            raise WeightsError(
                f"{path} does not fit {name}: {len(keys)} keys {what}, first {keys[0]!r}."
            )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"{path} does not fit {name}: {key!r} is {tuple(value.shape)}, "
                f"expected {tuple(expected[key].shape)}."
            )
    full = {key: value.float() for key, value in state.items()}
    network.load_state_dict(full, strict=True, assign=True)


def _network_of(state: State) -> str:
    """The network whose own parts stand among the keys."""
    if any(".attn.intra_modulator." in key for key in state):
        return "hint"
    return "glmha_restormer" if any(key.endswith(CALIBRATION) for key in state) else "restormer"


def _options_of(name: str, state: State) -> dict[str, OptionValue]:
    """Constructor options that would give these keys and shapes, as far as one can tell.

    What a file lacks is left at its default: comparing it with the built network names it.
    """

    def size(key: str, axis: int, default: int) -> int:
        value = state.get(key)
        return value.shape[axis] if value is not None and value.dim() > axis else default

    def blocks(stage: str) -> int:
        return len({key.split(".")[1] for key in state if key.startswith(f"{stage}.")})

    dim = size("patch_embed.proj.weight", 0, 48)
    heads = [size(f"{stage}.0.attn.temperature", 0, 1) for stage in LEVELS]
    num_blocks = [blocks(stage) for stage in LEVELS]
    if name == "hint":
        num_blocks[3] = 8  # sets nothing in HINT; the published value
    options: dict[str, OptionValue] = {
        **_ends_options(
            size("patch_embed.proj.weight", 1, 3),
            size("output.weight", 0, 3),
        ),
        "dim": dim,
        "num_blocks": num_blocks,
        "num_refinement_blocks": blocks("refinement"),
        "ffn_expansion_factor": _expansion(state, dim),
        "bias": any(key.endswith("ffn.project_in.bias") for key in state),
        "LayerNorm_type": "WithBias"
        if any(key.endswith("norm2.body.bias") for key in state)
        else "BiasFree",
    }
    if name != "hint":
        options |= {"heads": heads, "dual_pixel_task": "skip_conv.weight" in state}
    if name == "glmha_restormer":
        options |= _low_rank_options(state, heads)
    return options


def _ends_options(first: int, last: int) -> dict[str, OptionValue]:
    """How a picture enters and leaves, from the channels of the first and the last convolution.

    Gray and colour pictures are packed where the numbers say so; a tone curve leaves no trace.
    """
    for channels in CHANNELS_WITH_LUMA:
        for packing in PACKINGS:
            ends = Ends(inp_channels=channels, out_channels=channels, packing=packing)
            affine = replace(ends, head="affine")
            for found in (ends, affine):
                if (found.first_channels, found.last_channels) == (first, last):
                    told: dict[str, OptionValue] = {
                        "inp_channels": channels,
                        "out_channels": channels,
                    }
                    told |= {"packing": packing} if packing != 1 else {}
                    return told | ({"head": found.head} if found.head != "residual" else {})
    return {"inp_channels": first, "out_channels": last}


def _expansion(state: State, dim: int) -> float:
    """The factor e for which every level has int(e·C) hidden channels."""
    widths = [
        (dim * 2**level, value.shape[0] // 2)
        for level, stage in enumerate(LEVELS)
        if (value := state.get(f"{stage}.0.ffn.project_in.weight")) is not None and value.dim()
    ]
    return simplest(
        2.66, lambda factor: all(int(width * factor) == hidden for width, hidden in widths), 8.0
    )


def _low_rank_options(state: State, heads: list[int]) -> dict[str, OptionValue]:
    """Preset, ratio and kernel of a GLMHA-Restormer."""
    stages = frozenset(key.split(".")[0] for key in state if key.endswith(CALIBRATION))
    presets = [name for name, (known, _) in PRESETS.items() if known == stages]
    kernels = {state[key].shape[-1] for key in state if key.endswith(CALIBRATION)}
    kept = []  # (channels of a head, how many of them are kept)
    for level, stage in enumerate(LEVELS):
        q, kv = (state.get(f"{stage}.0.attn.{part}.weight") for part in ("q", "kv"))
        if q is not None and kv is not None:
            kept.append((q.shape[0] // heads[level], kv.shape[0] // 2 // heads[level]))
    ratio = simplest(
        0.5, lambda r: all(max(1, round(c * (1 - r))) == few for c, few in kept), 0.999
    )
    return {"preset": (presets or ["text"])[0], "ratio": ratio, "kernel": min(kernels, default=3)}
