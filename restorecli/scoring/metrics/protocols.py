"""How each benchmark computes its scores, as data with its source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from restorecli.errors import UsageError

Channel = Literal["rgb", "y", "y_full"]

CHANNELS: dict[Channel, str] = {
    "rgb": "RGB",
    "y": "Y of MATLAB's rgb2ycbcr (BT.601, studio range 16-235)",
    "y_full": "Y of BT.601 in full range (0.299 R + 0.587 G + 0.114 B)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way to score: the channel, the border left out, and who computes it like that."""

    name: str
    channel: Channel
    summary: str  # which benchmarks it is for
    source: str  # where the choice was read
    note: str = ""  # what differs from the source, if anything does
    y_rounded: bool = False  # Y rounded to integers before it is compared
    crop_border_px: int = 0  # rows and columns left out at every edge
    aliases: tuple[str, ...] = ()

    @property
    def channel_text(self) -> str:
        """The channel in words."""
        rounding = ", rounded to integers" if self.y_rounded else ""
        return CHANNELS[self.channel] + rounding

    @property
    def keys(self) -> tuple[str, str]:
        """Names of the two scores this protocol yields."""
        return f"psnr_{self.channel}", f"ssim_{self.channel}"


_PER_CHANNEL = "PSNR over all channels together; SSIM per channel, then averaged."

_ALL = (
    Protocol(
        name="rain",
        channel="y",
        summary="Rain12, Rain100L, Rain100H, Test100, Test1200, Test2800",
        source="HINT (Zhou et al., ICCV 2025) and Restormer (Zamir et al., CVPR 2022): "
        "the Y of Deraining/evaluate_PSNR_SSIM.m, in floating point as their Python code has it",
        note="A one-channel file counts as R = G = B, so storing gray as RGB changes no score.",
        aliases=("rain12", "rain100l", "rain100h", "test100", "test1200", "test2800"),
    ),
    Protocol(
        name="rain_matlab",
        channel="y",
        y_rounded=True,
        summary="the same benchmarks, as MATLAB prints them from 8-bit files",
        source="HINT and Restormer: Deraining/evaluate_PSNR_SSIM.m, where rgb2ycbcr of an 8-bit "
        "picture is 8-bit again",
        note="Rounding adds its own error: lower than rain, most where the score is high.",
    ),
    Protocol(
        name="sots",
        channel="rgb",
        summary="SOTS indoor and outdoor (RESIDE)",
        source="HINT: Dehaze/evaluate_SOTS.py. " + _PER_CHANNEL,
        aliases=("haze", "reside"),
    ),
    Protocol(
        name="snow100k",
        channel="rgb",
        summary="Snow100K",
        source="HINT: Desnowing/evaluate_Snow100k.py. " + _PER_CHANNEL,
        aliases=("snow",),
    ),
    Protocol(
        name="lol",
        channel="rgb",
        summary="LOL, LOL-v2 real and synthetic",
        source="HINT: Enhancement/test_from_dataset_LOLv2_Real.py. " + _PER_CHANNEL,
        note="Without the GT-mean correction, which the script applies on request only. The script "
        "takes PSNR of the network's floats; here it is of the written picture.",
        aliases=("lolv2", "lowlight"),
    ),
    Protocol(
        name="denoise",
        channel="rgb",
        summary="CBSD68, Urban100, Kodak24, McMaster, PolyU",
        source="HINT: Denoising/evaluate_gaussian_color_denoising_HINT.py. " + _PER_CHANNEL,
        aliases=("cbsd68", "urban100", "polyu"),
    ),
    Protocol(
        name="gopro",
        channel="rgb",
        summary="GoPro, HIDE",
        source="Restormer: Motion_Deblurring/evaluate_gopro_hide.m. " + _PER_CHANNEL,
        note="PSNR equals the script's. Its SSIM is MATLAB's ssim on the colour picture taken as a "
        "volume, which mixes channels: compare SSIM only with numbers from this tool.",
        aliases=("hide", "deblur"),
    ),
    Protocol(
        name="rgb",
        channel="rgb",
        summary="any colour pictures",
        source="Wang et al., IEEE TIP 13(4), 2004 for SSIM. " + _PER_CHANNEL,
    ),
    Protocol(
        name="y_full",
        channel="y_full",
        summary="any pictures, brightness only",
        source="ITU-R BT.601-7 with the full range of JFIF 1.02; SSIM of Wang et al., 2004",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Look a protocol up by name or alias; `UsageError` suggests the nearest."""
    by_name = {alias: p for p in _ALL for alias in (p.name, *p.aliases)}
    if found := by_name.get(name.lower()):
        return found
    near = difflib.get_close_matches(name.lower(), by_name, n=1)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"Unknown protocol {name!r}.",
        hint=f"{suggestion}Known: {', '.join(PROTOCOLS)}. See restore metrics --list-protocols.",
    )
