"""Restormer to GLMHA-Restormer in closed form: no training, only sums over some pictures.

Everything outside attention, the queries, their temperature and the output projection are copied.
Of the c key/value pairs of a head those with the most energy stay, each with its own depth-wise
kernels: a pair's energy is that of its attention column times that of its values. The calibration
network starts at zero (s = 1). Then the output projection is fitted anew, block by block on the
inputs that the teacher's block sees: ridge least squares, one C×C system.

A singular value decomposition of the weights would be no short cut: a 3×3 kernel of its own stands
between each row of the weights and the attention.

All sums are kept, no features, so memory does not grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from restorecli.networks.blocks import channel_scores
from restorecli.networks.glmha_restormer import GLMHARestormer, GuidedLowRankAttention
from restorecli.networks.restormer import ChannelAttention, Restormer, attention_weights

RIDGE = 1e-3  # of the mean energy of a channel

Choice = Literal["energy", "random"]
Rows = dict[str, Tensor]  # by block: which pairs of each head stay, (heads, c'), int64
Parts = tuple[Tensor, Tensor, Tensor]  # q, k, v of one picture, each (heads, c, N)


def reduced(
    teacher: Restormer,
    options: Mapping[str, object],
    pictures: Iterable[Tensor],
    *,
    preset: str = "text",
    ratio: float = 0.5,
    choice: Choice = "energy",
    seed: int = 0,
) -> tuple[GLMHARestormer, Rows]:
    """A GLMHA-Restormer with the strongest key/value rows of ``teacher``, and which they are.

    With ``ratio`` 0 nothing is left out and the result equals the teacher bit for bit.

    Args:
        teacher: In float32, in evaluation mode; it is not changed.
        options: The teacher's constructor options.
        pictures: Degraded pictures (1, C, H, W) in [0, 1]; only ``energy`` looks at them.
        preset: ``text`` or ``table``.
        ratio: Share of key and value channels to leave out, in [0, 1).
        choice: Rows by ``energy``, or by chance (for comparison).
        seed: Of the random choice.
    """
    build: Callable[..., GLMHARestormer] = GLMHARestormer
    student = build(**options, preset=preset, ratio=ratio)
    shared = student.state_dict().keys() & teacher.state_dict().keys()
    state = teacher.state_dict()
    student.load_state_dict({key: state[key] for key in shared}, strict=False)
    pairs = _pairs(teacher, student)
    energies = {pair.name: Energy(pair.teacher) for pair in pairs}
    if choice == "energy":
        _watch(teacher, pairs, pictures, energies)
    draw = torch.Generator().manual_seed(seed)
    rows = {}
    for pair in pairs:
        energy = energies[pair.name].total
        if choice == "random":
            energy = torch.rand(energy.shape, generator=draw, dtype=energy.dtype)
        rows[pair.name] = strongest(energy, pair.kept)
        _copy_rows(pair, rows[pair.name])
    return student.eval(), rows


def refit(
    teacher: Restormer, student: GLMHARestormer, rows: Rows, pictures: Iterable[Tensor]
) -> None:
    """Fit the output projections of ``student`` where it has fewer rows than ``teacher``.

    ``pictures`` are degraded ones, (1, C, H, W) in [0, 1].
    """
    pairs = [pair for pair in _pairs(teacher, student) if pair.kept < pair.width]
    fits = {pair.name: Fit(pair, rows[pair.name]) for pair in pairs}
    if pairs:
        _watch(teacher, pairs, pictures, fits)
    for pair in pairs:
        pair.student.project_out.weight.data.copy_(fits[pair.name].solution())


@dataclass(frozen=True, slots=True)
class Pair:
    """One block's attention, before and after."""

    name: str
    teacher: ChannelAttention
    student: GuidedLowRankAttention

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.teacher.project_out.in_channels // self.teacher.heads

    @property
    def kept(self) -> int:
        """Key/value channels of a head that stay."""
        return self.student.kv.out_channels // 2 // self.student.heads


def _pairs(teacher: Restormer, student: GLMHARestormer) -> list[Pair]:
    before = dict(teacher.named_modules())
    found = []
    for name, module in student.named_modules():
        own = before.get(name)
        if isinstance(module, GuidedLowRankAttention) and isinstance(own, ChannelAttention):
            found.append(Pair(name, own, module))
    return found


class Energy:
    """Sums, over pictures, of how much each key/value pair contributes."""

    def __init__(self, attention: ChannelAttention) -> None:
        width = attention.project_out.in_channels // attention.heads
        self.columns = torch.zeros(attention.heads, width, dtype=torch.float64)
        self.values = torch.zeros_like(self.columns)
        self.temperature = attention.temperature

    @property
    def total(self) -> Tensor:
        """Energy of each pair: (heads, c), float64."""
        return self.columns * self.values

    def add(self, parts: Parts, out: Tensor) -> None:
        """Account for one picture: q, k, v (heads, c, N)."""
        q, k, v = parts
        self.columns += _weights(q, k, self.temperature).double().square().sum(1)
        self.values += v.double().square().sum(-1)


class Fit:
    """Sums for the best output projection of one block: W minimises ‖W·Y − T‖² + λ‖W − W_O‖².

    Y is what the student's attention gives on the teacher's input, T what the teacher's block gave.
    Pulling towards the teacher's own W_O keeps directions that the pictures say nothing about.
    """

    def __init__(self, pair: Pair, rows: Tensor) -> None:
        channels = pair.teacher.project_out.in_channels
        self.gram = torch.zeros(channels, channels, dtype=torch.float64)  # Σ Y·Yᵀ
        self.cross = torch.zeros_like(self.gram)  # Σ T·Yᵀ
        self.temperature = pair.teacher.temperature
        self.original = pair.teacher.project_out.weight.detach().flatten(1).double()
        bias = pair.teacher.project_out.bias
        self.bias = 0.0 if bias is None else bias.detach()[:, None]
        self.rows = rows

    def add(self, parts: Parts, out: Tensor) -> None:
        """Account for one picture: q, k, v (heads, c, N) and the block's output (C, N)."""
        q, k, v = parts
        k, v = (_rows(part, self.rows) for part in (k, v))  # each (heads, c', N)
        y = (_weights(q, k, self.temperature) @ v).flatten(0, 1).double()  # (C, N)
        self.gram += y @ y.mT
        self.cross += (out - self.bias).double() @ y.mT

    def solution(self) -> Tensor:
        """The fitted projection, (C, C, 1, 1) in float32."""
        energy = RIDGE * self.gram.diagonal().mean().clamp_min(1e-12)
        system = self.gram + energy * torch.eye(len(self.gram), dtype=torch.float64)
        rest = self.cross - self.original @ self.gram
        fitted = self.original + torch.linalg.solve(system, rest, left=False)
        return fitted.float()[..., None, None]


def strongest(energy: Tensor, count: int) -> Tensor:
    """The ``count`` largest of each row in their old order: (heads, c) → (heads, count), int64."""
    return energy.topk(count, dim=-1).indices.sort(dim=-1).values


def _rows(part: Tensor, rows: Tensor) -> Tensor:
    """Rows of each head: (heads, c, N) and (heads, c') → (heads, c', N)."""
    return part.gather(1, rows[..., None].expand(-1, -1, part.shape[-1]))


def _weights(q: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Attention maps from q (heads, c, N) and k (heads, c', N) → (heads, c, c')."""
    scores = channel_scores(q @ k.mT, q.square().sum(-1), k.square().sum(-1))
    return attention_weights(scores, temperature)


def _copy_rows(pair: Pair, rows: Tensor) -> None:
    """Fill the student's attention: all queries, and the key/value ``rows`` (heads, c')."""
    teacher, student = pair.teacher, pair.student
    channels = teacher.project_out.in_channels
    heads = torch.arange(teacher.heads)[:, None] * pair.width
    kept = (heads + rows).flatten()  # (C',)
    keys_values = torch.cat([channels + kept, 2 * channels + kept])
    with torch.no_grad():
        for own, q, kv in (
            (teacher.qkv, student.q, student.kv),
            (teacher.qkv_dwconv, student.q_dwconv, student.kv_dwconv),
        ):
            for kind in ("weight", "bias"):
                value = getattr(own, kind)
                if value is not None:
                    getattr(q, kind).copy_(value[:channels])
                    getattr(kv, kind).copy_(value[keys_values])
        student.calibration.linear.weight.zero_()
        student.calibration.dwconv.weight.fill_(1 / student.calibration.kernel**2)


def _watch(
    teacher: Restormer,
    pairs: Sequence[Pair],
    pictures: Iterable[Tensor],
    sums: dict[str, Any],
) -> None:
    """Let ``teacher`` restore ``pictures`` (1, C, H, W); every block in ``pairs`` adds up."""

    def hook_for(name: str) -> Callable[..., None]:
        def hook(attention: ChannelAttention, inputs: tuple[Tensor], out: Tensor) -> None:
            qkv = attention.qkv_dwconv(attention.qkv(inputs[0]))[0].flatten(1)  # (3·C, N)
            q, k, v = (part.unflatten(0, (attention.heads, -1)) for part in qkv.chunk(3))
            sums[name].add((q, k, v), out[0].flatten(1))

        return hook

    hooks = [pair.teacher.register_forward_hook(hook_for(pair.name)) for pair in pairs]
    try:
        with torch.inference_mode():
            for picture in pictures:
                teacher(picture)
    finally:
        for hook in hooks:
            hook.remove()
