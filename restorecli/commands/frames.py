"""``restore frames``: raw frames of a video from standard input to standard output."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from restorecli.commands import models
from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.commands.options import FramesAsked
from restorecli.commands.parsing import parse_frame_size, refuse_contradictions
from restorecli.commands.restore import engine_of, model_of, tell_of
from restorecli.commands.steps import each, parse_tasks
from restorecli.errors import UsageError
from restorecli.machine import streams

if TYPE_CHECKING:
    from restorecli.engine.settings import EngineSettings

RAW = "ffmpeg -i in.mp4 -f rawvideo -pix_fmt rgb24 -"


@guided(
    (
        "cat in.rgb | restore frames denoise -s 640x360 > out.rgb",
        "Restores raw frames; docs/frames.md has the lines for ffmpeg on both sides.",
    ),
    (
        "cat in.rgb | restore frames derain,denoise -s 640x360 > out.rgb",
        "Removes rain, then noise.",
    ),
    (
        "cat in.rgb | restore frames lowlight -s 640x360 --pix-fmt rgb48le > out.rgb",
        "Takes and gives 16 bits a channel.",
    ),
    codes=(0, 2, 3, 4, 5, 130),
)
@asks(FramesAsked)
def frames(**options: Any) -> None:
    """Restore raw frames of a video: from ffmpeg on standard input, to it on standard output.

    Each frame is restored as a picture of its own, in constant memory; standard error tells the
    frames a second.
    """
    asked = FramesAsked(**options)
    size = parse_frame_size(asked.size)
    steps = each(parse_tasks(asked.task, "TASK"), {**asdict(asked), "inputs": []})
    for _, step in steps:
        refuse_contradictions(step)
    streams.check_output()
    if streams.input_is_a_terminal() or streams.output_is_a_terminal():
        raise UsageError(
            "Frames come from standard input and go to standard output, not to a terminal.",
            hint=f"{RAW} | restore frames {asked.task} -s {asked.size} > out.rgb",
        )
    settings = []
    for task, step in steps:
        model = models.fetch(model_of(task, step), offline=step.offline, dry_run=False)
        tell_of(model, step)
        settings.append(engine_of(model, step))
    restore(settings, asked, size)


def restore(settings: list[EngineSettings], asked: FramesAsked, size: tuple[int, int]) -> None:
    """Load the networks, restore all frames, and say how fast that was."""
    from restorecli import console
    from restorecli.engine.chain import prepare_chain
    from restorecli.runs.frames import Frames, restore_frames

    chain = prepare_chain(settings)
    with console.FrameDisplay(quiet=asked.quiet) as display:
        done = restore_frames(
            chain,
            Frames(size=size, pix_fmt=asked.pix_fmt),
            streams.read_into,
            streams.write_output,
            lambda progress: display.show(progress.count, progress.fps),
        )
    if not asked.quiet:
        how = f"{chain.device}, {chain.precision_name}"
        console.show_note(
            f"{done.count} frames of {size[1]}×{size[0]} in {done.elapsed_s:.1f} s: "
            f"{done.fps:.2f} frames a second ({how})"
        )
