"""CAVE's scenes: packed at half size, cut into crops, and seen by a camera.

``python -m training.spectral.data CAVE_FOLDER -o pack.safetensors --mask mask.mat`` packs the
scenes for training from the folder as its authors deliver it (``NAME_ms/NAME_ms/NAME_ms_01.png`` …
``_31.png``, 16 bits, 400 to 700 nm by 10 nm), and the mask of a CASSI. Values are stored as 255·√x
in 8 bits, differences of bands, compressed: 24 scenes take 13.4 MB, and what rounding loses (58 dB
and more) is printed. The scenes of ``HELD_OUT`` are never packed.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import safetensors
import safetensors.torch
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
SIDE_PX = 256  # of a scene, halved
SCENE, MASK = "scene/", "mask"  # what a pack calls its parts
LEFT_OUT = "watercolors"  # 8-bit RGBA, unlike the others
D65_SHARE = 0.7  # of the samples; the others are lit by another lamp, with its white balanced
GAINS = (0.6, 1.5)  # exposures
SPLICED = 0.5  # share of samples made of four crops, as MST's recipe has them
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


def pack(folder: Path, mask: NDArray[np.float32], output: Path) -> None:
    """Write the scenes for training and the mask to one file, and print what is lost."""
    tensors = {MASK: torch.from_numpy(mask).contiguous()}
    for name in scene_names(folder):
        if name in HELD_OUT:
            continue
        scene = read_scene(folder, name)
        roots = np.round(255 * np.sqrt(scene)).astype(np.uint8)
        error = np.square(roots.astype(np.float32) / 255) - scene
        print(f"{name}: {-10 * np.log10(np.square(error).mean()):.1f} dB", flush=True)
        differences = np.diff(roots, axis=0, prepend=np.uint8(0))
        packed = lzma.compress(differences.tobytes(), preset=9)
        tensors[SCENE + name] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
    safetensors.torch.save_file(tensors, output)


def unpack(path: Path) -> tuple[dict[str, NDArray[np.uint8]], Tensor]:
    """Scenes of a pack as 255·√x, uint8 (31, 256, 256) each, and the mask, (256, 256)."""
    scenes = {}
    with safetensors.safe_open(path, framework="pt") as file:
        for key in sorted(file.keys()):
            if key.startswith(SCENE):
                data = lzma.decompress(file.get_tensor(key).numpy().tobytes())
                differences = np.frombuffer(data, np.uint8).reshape(BANDS, SIDE_PX, SIDE_PX)
                scenes[key.removeprefix(SCENE)] = np.cumsum(differences, 0, dtype=np.uint8)
        return scenes, file.get_tensor(MASK)


def reflectance(roots: Tensor) -> Tensor:
    """Packed values as reflectances: uint8, any shape → float32 in [0, 1]."""
    return (roots.float() / 255).square()


def between_bands() -> Tensor:
    """What makes CASSI's 28 bands of 31, linearly between neighbours: (28, 31)."""
    weights = [np.interp(CASSI_NM, WAVELENGTHS_NM, band) for band in np.eye(BANDS)]
    return torch.from_numpy(np.stack(weights, 1)).float()


def cassi_bands(cube: Tensor, between: Tensor) -> Tensor:
    """Cubes at CASSI's wavelengths: (B, 31, …) → (B, 28, …)."""
    return torch.einsum("kc,bchw->bkhw", between.to(cube), cube)


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
    """Crops of the scenes, turned and mirrored; each follows from (seed, step) and the device."""

    def __init__(self, scenes: Iterable[NDArray[np.uint8]], seed: int, device: str) -> None:
        self.scenes = torch.from_numpy(np.stack(list(scenes))).to(device)  # (S, 31, 256, 256)
        self.seed = seed
        self.device = device
        self.cameras = lamps().float().to(device)

    def chance(self, step: int, device: str = "cpu") -> torch.Generator:
        """What decides the sample of a step."""
        return torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)

    def cubes(self, chance: torch.Generator, count: int, side_px: int) -> Tensor:
        """Reflectances (count, 31, side_px, side_px)."""

        def drawn(below: int) -> int:
            return int(torch.randint(below, (1,), generator=chance))

        def crop(side: int) -> Tensor:
            scene = self.scenes[drawn(len(self.scenes))]
            top, left = (drawn(size - side + 1) for size in scene.shape[-2:])
            found = scene[:, top : top + side, left : left + side]
            if drawn(2):
                found = found.flip(-1)
            return found.rot90(drawn(4), (-2, -1))

        crops = []
        for _ in range(count):
            if float(torch.rand(1, generator=chance)) < SPLICED:
                rows = [torch.cat([crop(side_px // 2) for _ in range(2)], -1) for _ in range(2)]
                crops.append(torch.cat(rows, -2))
            else:
                crops.append(crop(side_px))
        return reflectance(torch.stack(crops))

    def pairs(self, step: int, count: int, side_px: int) -> tuple[Tensor, Tensor]:
        """Photographs (count, 3, …) in linear light, and the cubes (count, 31, …) they show."""
        chance = self.chance(step)
        low, high = np.log(GAINS[0]), np.log(GAINS[1])
        gain = torch.exp(low + (high - low) * torch.rand(count, generator=chance))
        lamp = 1 + torch.randint(len(self.cameras) - 1, (count,), generator=chance)
        lamp[torch.rand(count, generator=chance) < D65_SHARE] = 0
        strength = NOISE * torch.rand(count, generator=chance)
        cube = self.cubes(chance, count, side_px)
        cube = cube * gain.to(cube)[:, None, None, None]
        noise = torch.randn(
            count, 3, side_px, side_px,
            generator=self.chance(step, self.device), device=self.device,
        )  # fmt: skip
        noise = noise * strength.to(cube)[:, None, None, None]
        return photographed(cube, self.cameras[lamp.to(self.device)], noise), cube

    def coded(self, step: int, count: int, side_px: int, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cubes (count, 31, side_px, side_px), and a part of the mask of that size."""
        chance = self.chance(step)
        top, left = (
            int(torch.randint(size - side_px + 1, (1,), generator=chance)) for size in mask.shape
        )
        part = mask[top : top + side_px, left : left + side_px]
        return self.cubes(chance, count, side_px), part


def read_mask(path: Path) -> NDArray[np.float32]:
    """A CASSI's mask, values in [0, 1]: (256, 256)."""
    import scipy.io  # where training runs it may be missing

    mask = np.asarray(scipy.io.loadmat(path)["mask"], dtype=np.float32)
    if mask.shape != (SIDE_PX, SIDE_PX):
        raise SystemExit(f"{path}: expected a mask of {SIDE_PX}×{SIDE_PX}, found {mask.shape}")
    return mask


def main() -> None:
    """Pack a folder of scenes."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.data", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--mask", type=Path, required=True, help=".mat with a variable `mask`")
    args = parser.parse_args()
    pack(args.folder, read_mask(args.mask), args.output)


if __name__ == "__main__":
    main()
