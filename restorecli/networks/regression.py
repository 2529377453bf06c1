"""A spectrum from three numbers by least squares: what a network has to beat.

Root-polynomial features (Finlayson, Mackiewicz and Hurlbert, IEEE TIP 2015) scale with the light,
so a picture twice as bright has a cube twice as bright.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 13


def root_polynomials(x: Tensor) -> Tensor:
    """Roots of the products of up to three channels: each of degree 1 in the light.

    r, g, b, √rg, √gb, √br, then ∛ of rg², gb², br², gr², bg², rb² and rgb.

    Shape:
        x: (B, 3, H, W), below 0 counts as 0 → (B, 13, H, W).
    """
    r, g, b = x.clamp_min(0).unbind(1)
    pairs = ((r, g), (g, b), (b, r))
    cubes = (*((p, q) for p, q in pairs), *((q, p) for p, q in pairs))
    return torch.stack(
        [
            *(r, g, b),
            *((p * q).sqrt() for p, q in pairs),
            *((p * q * q) ** (1 / 3) for p, q in cubes),
            (r * g * b) ** (1 / 3),
        ],
        1,
    )


class RootPolynomial(nn.Module):
    """Bands as fixed sums of root-polynomial features: no neighbours, nothing learnt but a fit.

    Shape:
        x: (B, 3, H, W), linear light, nominally [0, 1], any H and W from 1
        → (B, out_channels, H, W), same dtype, not clamped.
    """

    def __init__(self, *, out_channels: int = 31) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x`` (B, 3, H, W) → (B, out_channels, H, W)."""
        return torch.einsum("kf,bfhw->bkhw", self.weight, root_polynomials(x))
