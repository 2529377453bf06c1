"""How fast is a network on a GPU, in which form, and against the authors' code?

``python -m benchmarks.gpu --out FILE``; ``--authors`` and ``--authors-hint`` take checkouts of
their code. Weights are random. Only torch, numpy and our networks are imported, so that a machine
that is lent for minutes needs nothing else. Sizes grow, and what no longer fits into ``--seconds``
is left out, so the largest are dropped first. Without CUDA the same calls run on the processor;
graphs are then not captured, and the head says so.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from benchmarks.authors import authors_class, without_memory
from restorecli.networks import NETWORKS
from restorecli.networks.strips import restore_by_strips

Evaluate = Callable[[Tensor], Tensor]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = ((256, 256), (512, 512), (1024, 1024), (2048, 2048), (3008, 4000), (4000, 6000))
STRIP_PIXELS = (2**18, 2**20, 2**22)  # of a strip
COMPILE_SHARE = 0.3  # of the seconds are kept for torch.compile
WARM_UPS = 2
MOST_S = 1.5  # of one way at one size: fewer repeats of what takes longer


def compact() -> dict[str, Any]:
    """HINT as bundled networks have it."""
    return {"dim": 32, "packing": 2, "num_blocks": [1, 1, 2, 2], "num_refinement_blocks": 1}


SUBJECTS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "hint-compact": ("hint", compact),
    "hint": ("hint", dict),
    "restormer": ("restormer", dict),
}


@dataclass(slots=True)
class Bench:
    """What is measured, where, and until when."""

    device: str
    seconds: float
    repeats: int
    authors: dict[str, Path]  # network: checkout
    out: TextIO
    started: float = field(default_factory=time.perf_counter)
    pace: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds of a pixel

    def left(self) -> float:
        """Seconds that may still be spent."""
        return self.started + self.seconds - time.perf_counter()

    def say(self, line: str) -> None:
        """One line of the result, at once."""
        for stream in (sys.stdout, self.out):
            stream.write(line + "\n")
            stream.flush()


def main() -> None:
    """Print and write one line for each network, size and way."""
    options = parsed_options()
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True  # as the command sets it
    torch.backends.cuda.matmul.allow_tf32 = False
    checkouts = {"restormer": options.authors, "hint": options.authors_hint}
    with options.out.open("w", encoding="utf-8") as out:
        bench = Bench(
            options.device,
            options.seconds,
            options.repeats,
            {name: path for name, path in checkouts.items() if path},
            out,
        )
        head(bench)
        compiling_s = 0 if options.no_compile else COMPILE_SHARE * options.seconds
        for height, width in options.sizes:
            for subject in options.networks:
                measure_all(bench, subject, (height, width), reserved_s=compiling_s)
        if not options.no_parts:
            parts(bench, options.part_pixels)
        if not options.no_compile:
            compiled(bench, options.networks, options.compile_size)
        bench.say(f"{options.seconds - bench.left():.0f} s in all")


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="text file for the result")
    parser.add_argument("--seconds", type=float, default=200, help="for everything")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--sizes", type=_size, nargs="+", default=SIZES, help="as 256x256")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--authors", type=Path, help="checkout of the authors' Restormer")
    parser.add_argument("--authors-hint", type=Path, help="checkout of the authors' HINT")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compile-size", type=_size, default=(1024, 1024))
    parser.add_argument("--no-parts", action="store_true")
    parser.add_argument("--part-pixels", type=int, default=2**20)
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def head(bench: Bench) -> None:
    """Device and versions, and what the columns are."""
    if bench.device == "cpu":
        name = f"{platform.machine()} processor; CUDA has not been run, graphs are not captured"
    else:
        name = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        name += f", cuDNN {torch.backends.cudnn.version()}"
    bench.say(f"{name}, torch {torch.__version__}, no TF32; {bench.repeats} runs each")
    bench.say("first: seconds of the first call, with everything that is set up then")
    bench.say("times: how many times as fast as plain fp32; peak: memory above parameters and")
    bench.say("picture; difference: largest, from plain fp32; networks with random weights")
    bench.say(f"hint-compact is {compact()}")
    bench.say("")
    bench.say(
        f"{'network':>12} {'size':>9} {'way':>28} {'first s':>8} {'median ms':>10} {'min ms':>9} "
        f"{'MP/s':>7} {'times':>6} {'peak MB':>8} {'difference':>10}"
    )


def measure_all(bench: Bench, subject: str, size: tuple[int, int], *, reserved_s: float) -> None:
    """Every way of one network at one size; a way that would take too long is left out."""
    network = random_network(subject).to(bench.device)
    torch.manual_seed(1)
    x = torch.rand(1, 3, *size).to(bench.device)
    pixels = size[0] * size[1]
    exact: Tensor | None = None
    exact_ms = 0.0
    late = []
    for way, make in ways(bench, subject, network, pixels).items():
        if 3 * bench.pace.get((subject, way), 0) * pixels > bench.left() - reserved_s:
            late.append(way)
            continue
        line = f"{subject:>12} {f'{size[0]}x{size[1]}':>9} {way:>28} "
        try:
            first_s, times_ms, peak_bytes, y = timed(bench, make, x)
        except (RuntimeError, MemoryError) as error:  # too little memory is a result, too
            bench.say(line + str(error).splitlines()[0][:90])
            continue
        finally:
            release(bench)
        median_ms = statistics.median(times_ms)
        bench.pace[subject, way] = median_ms / 1e3 / pixels
        if way == "plain fp32":
            exact, exact_ms = y, median_ms
        difference = "" if exact is None else f"{float((y - exact).abs().max()):.1e}"
        bench.say(
            f"{line}{first_s:8.2f} {median_ms:10.2f} {min(times_ms):9.2f} "
            f"{pixels / 1e3 / median_ms:7.2f} {exact_ms / median_ms:6.2f} {peak_bytes / 1e6:8.0f} "
            f"{difference:>10}"
        )
    if late:
        bench.say(f"{subject:>12} {f'{size[0]}x{size[1]}':>9} no time for: {'; '.join(late)}")


def random_network(subject: str) -> nn.Module:
    """The network of ``subject``, the same at every call, on the processor."""
    torch.manual_seed(0)
    name, options = SUBJECTS[subject]
    network: nn.Module = NETWORKS[name](**options()).eval()
    return network.requires_grad_(False)


def ways(
    bench: Bench, subject: str, network: nn.Module, pixels: int
) -> dict[str, Callable[[Tensor], Evaluate]]:
    """Each way's name, and a function that prepares it for pictures like a given one."""
    made: dict[str, Callable[[Tensor], Evaluate]] = {"plain fp32": lambda x: network}
    if (checkout := bench.authors.get(subject)) is not None:
        theirs = authors_class(checkout, subject)(**SUBJECTS[subject][1]())
        theirs.load_state_dict(network.state_dict())
        theirs = theirs.eval().requires_grad_(False).to(bench.device)
        made["authors fp32"] = lambda x: without_memory(theirs)
        made["authors bf16 autocast"] = lambda x: half(without_memory(theirs), torch.bfloat16)
    made["plain fp32 channels-last"] = lambda x: channels_last(network)
    for name, dtype in HALVES.items():
        made[f"plain {name}"] = partial(lambda x, dtype: half(network, dtype), dtype=dtype)
        made[f"plain {name} channels-last"] = partial(
            lambda x, dtype: half(channels_last(network), dtype), dtype=dtype
        )
    for strip_pixels in STRIP_PIXELS:
        for name, dtype in {"fp32": torch.float32, **HALVES}.items():
            if name == "fp16" and strip_pixels != STRIP_PIXELS[-1]:
                continue
            evaluate = partial(by_strips, network, strip_pixels, dtype)
            made[f"strips {strip_pixels // 1024}k px {name}"] = partial(
                lambda x, evaluate: evaluate, evaluate=evaluate
            )
        if strip_pixels >= pixels:  # the whole picture is one strip
            break
    whole = partial(by_strips, network, STRIP_PIXELS[-1])
    made["graph, plain fp32"] = lambda x: captured(network, x)
    made["graph, plain bf16 ch.-last"] = lambda x: captured(
        half(channels_last(network), torch.bfloat16), x
    )
    made["graph, strips fp32"] = lambda x: captured(partial(whole, torch.float32), x)
    made["graph, strips bf16"] = lambda x: captured(partial(whole, torch.bfloat16), x)
    return made


def channels_last(network: nn.Module) -> Evaluate:
    """The plain forward pass with pixels whose channels lie together."""
    copied = copy.deepcopy(network).to(memory_format=torch.channels_last)
    return lambda x: copied(x.contiguous(memory_format=torch.channels_last))


def half(evaluate: Evaluate, dtype: torch.dtype) -> Evaluate:
    """The plain forward pass with products and convolutions in ``dtype``."""

    def evaluated(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype):
            return evaluate(x).float()

    return evaluated


def by_strips(network: nn.Module, strip_pixels: int, dtype: torch.dtype, x: Tensor) -> Tensor:
    """``restore_by_strips`` in strips of so many pixels."""
    rows = max(8, strip_pixels // x.shape[-1] // 8 * 8)
    return restore_by_strips(network, x, strip_rows=rows, dtype=dtype)


def captured(evaluate: Evaluate, x: Tensor) -> Evaluate:
    """A CUDA graph of ``evaluate`` for pictures like ``x``; elsewhere ``evaluate`` itself."""
    if x.device.type != "cuda":
        return evaluate
    picture = x.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            evaluate(picture)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        restored = evaluate(picture)

    def replay(x: Tensor) -> Tensor:
        picture.copy_(x)
        graph.replay()
        return restored

    return replay


@torch.no_grad()
def timed(
    bench: Bench, make: Callable[[Tensor], Evaluate], x: Tensor
) -> tuple[float, list[float], int, Tensor]:
    """Seconds of the first call, milliseconds of the others, peak bytes, and a result."""
    on_gpu = x.device.type == "cuda"
    wait(on_gpu)
    held_bytes = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        held_bytes = torch.cuda.memory_allocated()
    start = time.perf_counter()
    evaluate = make(x)
    y = evaluate(x)
    wait(on_gpu)
    first_s = time.perf_counter() - start
    peak_bytes = torch.cuda.max_memory_allocated() - held_bytes if on_gpu else 0
    if first_s < MOST_S:
        evaluate(x)
    times_ms: list[float] = []
    while len(times_ms) < bench.repeats and (not times_ms or sum(times_ms) < 1e3 * MOST_S):
        wait(on_gpu)
        start = time.perf_counter()
        y = evaluate(x)
        wait(on_gpu)
        times_ms.append(1e3 * (time.perf_counter() - start))
    return first_s, times_ms, peak_bytes, y.clone()


def wait(on_gpu: bool) -> None:
    """CUDA calls return before they finish."""
    if on_gpu:
        torch.cuda.synchronize()


def release(bench: Bench) -> None:
    """Give what the last way held to the next one."""
    if bench.device.startswith("cuda"):
        torch.cuda.empty_cache()


@torch.no_grad()
def parts(bench: Bench, pixels: int) -> None:
    """Steps of a block alone: which form of each is the fastest here?"""
    side = max(8, int(pixels**0.5) // 8 * 8)
    bench.say("")
    bench.say(f"steps of a block on {side}x{side} positions, median ms of {bench.repeats} runs")
    bench.say(f"{'step':>44} {'fp32':>9} {'bf16':>9} {'fp16':>9}")
    for channels in (64, 256):
        for name, step in steps(channels).items():
            cells = []
            for dtype in (torch.float32, *HALVES.values()):
                x = torch.rand(1, channels, side, side, device=bench.device).to(dtype)
                try:
                    times_ms = timed(bench, partial(step, dtype=dtype), x)[1]
                    cells.append(f"{statistics.median(times_ms):9.3f}")
                except (RuntimeError, MemoryError) as error:
                    cells.append(f"{type(error).__name__[:9]:>9}")
                release(bench)
            bench.say(f"{f'{name}, {channels} channels':>44} {' '.join(cells)}")


def steps(channels: int) -> dict[str, Callable[..., Evaluate]]:
    """Ways to make what a block is made of; each is prepared for a picture of features."""

    def convolution(
        x: Tensor, dtype: torch.dtype, *, kernel: int, groups: int, last: bool
    ) -> Evaluate:
        weight = torch.rand(channels, channels // groups, kernel, kernel, device=x.device)
        form = torch.channels_last if last else torch.contiguous_format
        weight, planes = weight.to(dtype, memory_format=form), x.contiguous(memory_format=form)
        return lambda _: nn.functional.conv2d(planes, weight, padding=kernel // 2, groups=groups)

    def shifted(x: Tensor, dtype: torch.dtype) -> Evaluate:
        weight = torch.rand(3, 3, channels, device=x.device, dtype=dtype)
        rows = nn.functional.pad(x[0].permute(1, 2, 0), (0, 0, 1, 1, 1, 1)).contiguous()
        height, width = x.shape[2:]

        def summed(_: Tensor) -> Tensor:
            total = rows[:height, :width] * weight[0, 0]
            for i, j in [(i, j) for i in range(3) for j in range(3)][1:]:
                total.addcmul_(rows[i : i + height, j : j + width], weight[i, j])
            return total

        return summed

    def on_rows(
        x: Tensor, dtype: torch.dtype, *, step: Callable[[Tensor, Tensor], Tensor]
    ) -> Evaluate:
        rows = x[0].permute(1, 2, 0).contiguous()  # (H, W, C)
        weight = torch.rand(channels, channels, device=x.device, dtype=dtype)
        return lambda _: step(rows, weight)

    def gram(rows: Tensor, weight: Tensor) -> Tensor:
        blocks = rows.float().view(rows.shape[0] // 8, -1, channels)
        return (blocks.mT @ blocks).double().sum(0)

    depthwise = partial(convolution, kernel=3, groups=channels)
    return {
        "depth-wise 3x3, planes": partial(depthwise, last=False),
        "depth-wise 3x3, channels last": partial(depthwise, last=True),
        "depth-wise 3x3, nine products": shifted,
        "1x1 as convolution, channels last": partial(convolution, kernel=1, groups=1, last=True),
        "1x1 as product": partial(on_rows, step=nn.functional.linear),
        "layer norm": partial(
            on_rows, step=lambda rows, weight: nn.functional.layer_norm(rows, weight[0].shape)
        ),
        "gelu and gate": partial(
            on_rows, step=lambda rows, weight: nn.functional.gelu(rows).mul_(rows)
        ),
        "sums of 8 rows each": partial(on_rows, step=gram),
    }


def compiled(bench: Bench, subjects: Sequence[str], size: tuple[int, int]) -> None:
    """``torch.compile`` of the plain forward pass, with the seconds until its first result.

    In a process of its own, which ends when the time does.
    """
    bench.say("")
    bench.say(f"torch.compile, bf16 channels-last, {size[0]}x{size[1]}")
    spawn = multiprocessing.get_context("spawn")
    for subject in subjects:
        here, there = spawn.Pipe(duplex=False)
        allowed_s = bench.left()
        arguments = (there, subject, size, bench.device, bench.repeats)
        process = spawn.Process(target=_compiled, args=arguments, daemon=True)
        process.start()
        there.close()
        try:
            if allowed_s < 0 or not here.poll(allowed_s):
                bench.say(f"{subject:>12} not compiled within {max(allowed_s, 0):.0f} s")
            else:
                bench.say(f"{subject:>12} {here.recv()}")
        except EOFError:
            bench.say(f"{subject:>12} its process ended")
        finally:
            process.kill()
            process.join()


def _compiled(pipe: Any, subject: str, size: tuple[int, int], device: str, repeats: int) -> None:
    network = random_network(subject).to(device)
    x = torch.rand(1, 3, *size).to(device)
    bench = Bench(device, 0, repeats, {}, sys.stdout)
    make = torch.compile(half(channels_last(network), torch.bfloat16))
    try:
        first_s, times_ms, peak_bytes, _ = timed(bench, lambda x: make, x)
    except Exception as error:  # whatever the compiler raises is the result
        pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}")
        return
    pipe.send(
        f"first call {first_s:.1f} s, then median {statistics.median(times_ms):.2f} ms, "
        f"min {min(times_ms):.2f} ms, peak {peak_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
