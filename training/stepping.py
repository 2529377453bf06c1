"""A network, its average and its optimiser, which move one step at a time.

On a GPU a step is recorded once as a CUDA graph and replayed: the networks are small, and most of
the time would go into starting their kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

EAGER_STEPS = 3  # before a step is recorded: libraries choose their algorithms in them


class Optimisation(Protocol):
    """What decides a step, besides the loss and the rate."""

    @property
    def learning_rate(self) -> float:
        """Where it starts; later every step brings its own."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    @property
    def clip_norm(self) -> float:
        """Longest gradient."""

    @property
    def ema(self) -> float:
        """How much of the average stays at each step."""


def half_precision(device: torch.device) -> bool:
    """Whether bfloat16 is faster there: a GPU, or a processor that multiplies it."""
    if device.type == "cuda":
        return True
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


class Stepper:
    """Moves ``network`` down a loss of two tensors, whose shapes stay those of the first batch."""

    def __init__(self, network: nn.Module, settings: Optimisation, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.network = network
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        on_gpu = device.type == "cuda"
        self.rate = torch.tensor(settings.learning_rate, device=device)
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=self.rate if on_gpu else settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self.step = 0
        self.bf16 = half_precision(device)
        self.side = (
            torch.cuda.Stream() if on_gpu else None
        )  # a step is recorded where it ran before
        self.replay: Callable[[Tensor, Tensor], Tensor] | None = None

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Loss of a batch → scalar, float32."""
        raise NotImplementedError

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is faster; casts are not cached: a recorded step would use old ones."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False
        )

    def _step(self, first: Tensor, second: Tensor) -> Tensor:
        """Gradients and their application; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(first, second)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def move(self, first: Tensor, second: Tensor, rate: float) -> Tensor:
        """One optimiser step; returns the loss, perhaps not yet computed."""
        first, second = (part.to(self.device, non_blocking=True) for part in (first, second))
        if self.device.type == "cuda":
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        if self.replay is not None:
            loss = self.replay(first, second)
        elif self.side is not None:
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                loss = self._step(first, second)
            torch.cuda.current_stream().wait_stream(self.side)
        else:
            loss = self._step(first, second)
        self.average.update_parameters(self.network)
        self.step += 1
        return loss

    def record(self, first: Tensor, second: Tensor) -> None:
        """From now on replay a step as a CUDA graph; the shapes stay those of this batch."""
        inputs = [part.to(self.device).clone() for part in (first, second)]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.side, capture_error_mode="thread_local"):
            loss = self._step(*inputs)

        def replay(first: Tensor, second: Tensor) -> Tensor:
            inputs[0].copy_(first)
            inputs[1].copy_(second)
            graph.replay()
            return loss.clone()

        self.replay = replay

    def try_to_record(self, first: Tensor, second: Tensor) -> None:
        """Record a step; where that fails, go on step by step and say so."""
        try:
            self.record(first, second)
        except RuntimeError as error:
            print(f"No CUDA graph, which is slower: {error}", flush=True)
            self.optimizer.zero_grad(set_to_none=True)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells besides the weights."""
        return {}

    def save(self, path: Path) -> None:
        """Write everything needed to go on, in place of ``path`` only when complete."""
        partial = path.with_suffix(".partial")
        state = {
            **self.facts(),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict(),
            "averaged": int(self.average.n_averaged),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> dict[str, Any]:
        """Go on from ``path``; returns all that it holds."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.module.load_state_dict(state["average"])
        self.average.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.device.type == "cuda":
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
        self.step = state["step"]
        return state
