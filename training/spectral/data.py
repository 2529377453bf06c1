"""CAVE's scenes: packed at half size, cut into crops, and seen by a camera.

``python -m training.spectral.data CAVE_FOLDER -o cave.zip`` packs the folder as its authors deliver
it (``NAME_ms/NAME_ms/NAME_ms_01.png`` … ``_31.png``, 16 bits, 400 to 700 nm by 10 nm). Values are
stored as 255·√x in 8 bits, band differences after the first, so that 31 scenes take 19 MB.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restorecli.spectral.observer import D65, OBSERVER_NM, bands_to_srgb

BANDS = 31
WAVELENGTHS_NM = tuple(range(400, 701, 10))
CASSI_NM = (
    453.5, 457.5, 462.0, 466.0, 471.5, 476.5, 481.5, 487.0, 492.5, 498.0, 504.0, 510.0, 516.0,
    522.5, 529.5, 536.5, 544.0, 551.5, 558.5, 567.5, 575.5, 584.5, 594.5, 604.0, 614.5, 625.0,
    636.5, 648.0,
)  # fmt: skip
HELD_OUT = (
    "chart_and_stuffed_toy",
    "face",
    "fake_and_real_lemons",
    "fake_and_real_tomatoes",
    "hairs",
    "photo_and_face",
    "sponges",
)
LEFT_OUT = "watercolors"  # 8-bit RGBA, unlike the others
D65_SHARE = 0.7  # of the samples; the others are lit by another lamp, with its white balanced
GAINS = (0.6, 1.5)  # exposures
NOISE = 0.01  # largest standard deviation at full light
# Black bodies and a warm and a cool LED stand for other lamps; all powers at OBSERVER_NM.
TEMPERATURES_K = (2856, 4000, 5000, 8000)


def read_scene(folder: Path, name: str) -> NDArray[np.float32]:
    """One scene at half size, reflectance in [0, 1]: (31, 256, 256)."""
    planes = []
    for band in range(1, BANDS + 1):
        path = folder / f"{name}_ms" / f"{name}_ms" / f"{name}_ms_{band:02d}.png"
        plane = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if plane is None or plane.dtype != np.uint16:
            raise SystemExit(f"{path}: expected a 16-bit picture of one band")
        half = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean((1, 3))
        planes.append(half / 65535)
    return np.stack(planes).astype(np.float32)


def scene_names(folder: Path) -> list[str]:
    """Scenes of the folder, by name."""
    names = (path.name.removesuffix("_ms") for path in folder.iterdir() if path.is_dir())
    return sorted(name for name in names if name != LEFT_OUT)


def pack(folder: Path, output: Path) -> None:
    """Write all scenes of ``folder`` to one archive that ``numpy.load`` reads."""
    with zipfile.ZipFile(output, "w", zipfile.ZIP_LZMA) as archive:
        for name in scene_names(folder):
            roots = np.round(255 * np.sqrt(read_scene(folder, name))).astype(np.uint8)
            differences = np.diff(roots, axis=0, prepend=np.uint8(0))
            buffer = io.BytesIO()
            np.save(buffer, differences)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def unpack(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[np.uint8]]:
    """Scenes of an archive as 255·√x: uint8 (31, 256, 256) each."""
    with np.load(path) as archive:
        chosen = archive.files if names is None else names
        return {name: np.cumsum(archive[name], axis=0, dtype=np.uint8) for name in chosen}


def reflectance(roots: Tensor) -> Tensor:
    """Packed values as reflectances: uint8, any shape → float32 in [0, 1]."""
    return (roots.float() / 255).square()


def cassi_bands(cube: Tensor) -> Tensor:
    """Cubes at CASSI's wavelengths, linearly between bands: (B, 31, …) → (B, 28, …)."""
    weights = np.stack(
        [np.interp(CASSI_NM, WAVELENGTHS_NM, band) for band in np.eye(BANDS)], 1
    )  # (28, 31)
    matrix = torch.from_numpy(weights).to(cube)
    return torch.einsum("kc,bchw->bkhw", matrix, cube)


def lamps() -> Tensor:
    """Cameras: reflectance → linear sRGB under D65 first, then other lamps, (lamps, 3, 31)."""
    metres = OBSERVER_NM * 1e-9
    powers = [D65]
    for kelvin in TEMPERATURES_K:
        powers.append(metres**-5 / np.expm1(1.4388e-2 / (metres * kelvin)))
    for width, yellow in ((12, 1.0), (10, 0.6)):  # blue peak and broad phosphor of an LED
        blue = np.exp(-0.5 * ((OBSERVER_NM - 452) / width) ** 2)
        powers.append(0.6 * blue + yellow * np.exp(-0.5 * ((OBSERVER_NM - 590) / 60) ** 2))
    return torch.from_numpy(np.stack([bands_to_srgb(WAVELENGTHS_NM, power) for power in powers]))


def photographed(cube: Tensor, cameras: Tensor, noise: Tensor | None = None) -> Tensor:
    """What an 8-bit sRGB photograph keeps of ``cube``, in linear light.

    Shape:
        cube: (B, 31, H, W); cameras: (B, 3, 31); noise: (B, 3, H, W), added before rounding
        → (B, 3, H, W), in [0, 1].
    """
    rgb = torch.einsum("bkc,bchw->bkhw", cameras.to(cube), cube)
    if noise is not None:
        rgb = rgb + noise
    light = rgb.clamp(0, 1)
    encoded = torch.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    )
    encoded = (encoded * 255).round() / 255
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


class Crops:
    """Crops of the scenes, turned and mirrored; each follows from (seed, step) alone."""

    def __init__(self, scenes: Iterable[NDArray[np.uint8]], seed: int, device: str) -> None:
        self.scenes = torch.from_numpy(np.stack(list(scenes))).to(device)  # (S, 31, 256, 256)
        self.seed = seed
        self.cameras = lamps().float().to(device)

    def cubes(self, step: int, count: int, side_px: int) -> tuple[Tensor, torch.Generator]:
        """Reflectances (count, 31, side_px, side_px), and the chance that made them."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)

        def drawn(below: int) -> int:
            return int(torch.randint(below, (1,), generator=chance))

        crops = []
        for _ in range(count):
            scene = self.scenes[drawn(len(self.scenes))]
            top, left = (drawn(size - side_px + 1) for size in scene.shape[-2:])
            crop = scene[:, top : top + side_px, left : left + side_px]
            if drawn(2):
                crop = crop.flip(-1)
            crops.append(crop.rot90(drawn(4), (-2, -1)))
        return reflectance(torch.stack(crops)), chance

    def pairs(self, step: int, count: int, side_px: int) -> tuple[Tensor, Tensor]:
        """Photographs (count, 3, …) in linear light, and the cubes (count, 31, …) they show."""
        cube, chance = self.cubes(step, count, side_px)
        low, high = np.log(GAINS[0]), np.log(GAINS[1])
        gain = torch.exp(low + (high - low) * torch.rand(count, generator=chance))
        lamp = 1 + torch.randint(len(self.cameras) - 1, (count,), generator=chance)
        lamp[torch.rand(count, generator=chance) < D65_SHARE] = 0
        strength = NOISE * torch.rand(count, generator=chance)
        noise = torch.randn(count, 3, side_px, side_px, generator=chance)
        cube = cube * gain.to(cube)[:, None, None, None]
        noise = noise.to(cube) * strength.to(cube)[:, None, None, None]
        return photographed(cube, self.cameras[lamp.to(cube.device)], noise), cube


def main() -> None:
    """Pack a folder of scenes."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.data", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    pack(args.folder, args.output)


if __name__ == "__main__":
    main()
