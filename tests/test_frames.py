"""Raw frames through a pipe: each a picture of its own, in the memory of a few."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restorecli.engine.chain import prepare_chain
from restorecli.engine.settings import EngineSettings
from restorecli.errors import InputError, OutputError, UsageError
from restorecli.runs.frames import FORMATS, Frames, restore_frames
from restorecli.weights import choose_model
from tests.conftest import pixels_of

SIZE = (24, 32)  # height, width


@pytest.fixture
def chain(random_weights):
    settings = EngineSettings(model=choose_model("derain", weights=random_weights), device="cpu")
    return prepare_chain([settings])


@pytest.fixture
def film(picture):
    """Raw frames that differ."""

    def make(count, pix_fmt="rgb24"):
        frames = [picture(*SIZE, seed=number) for number in range(count)]
        if pix_fmt == "rgb48le":
            frames = [frame.astype("<u2") * 257 - frame for frame in frames]
        return frames

    return make


def raw(frames):
    return b"".join(frame.tobytes() for frame in frames)


def test_the_command_makes_of_each_frame_what_it_makes_of_the_picture(
    cli, film, random_weights, tmp_path
):
    frames = film(3)
    command = [sys.executable, "-m", "restorecli", "frames", "derain", "-s", "32x24",
               "--weights", random_weights, "-v", "--log", tmp_path / "log.txt"]  # fmt: skip
    ended = subprocess.run(
        list(map(str, command)), input=raw(frames), capture_output=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    said = ended.stderr.decode()
    assert re.search(r"3 frames of 32×24 in .* s: [\d.]+ frames a second \(cpu, fp32\)", said)
    kept = (tmp_path / "log.txt").read_text()
    for reason in ("Device cpu: ", "the whole picture"):
        assert reason in said
        assert reason in kept
    made = np.frombuffer(ended.stdout, np.uint8).reshape(3, *SIZE, 3)
    for number, frame in enumerate(frames):
        path = tmp_path / f"{number}.png"
        Image.fromarray(frame).save(path)
        assert cli("derain", path, "--weights", random_weights).exit_code == 0
        np.testing.assert_array_equal(made[number], pixels_of(tmp_path / f"{number}.derain.png"))


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_frames_of_both_depths_in_pieces_of_any_size(chain, film, pix_fmt):
    frames = film(2, pix_fmt)
    source, sink = io.BytesIO(raw(frames)), io.BytesIO()

    def read(view):
        return source.readinto(view[:1000])

    done = restore_frames(chain, Frames(size=SIZE, pix_fmt=pix_fmt), read, sink.write)
    assert done.count == 2
    assert done.fps > 0
    made = np.frombuffer(sink.getvalue(), frames[0].dtype).reshape(2, *SIZE, 3)
    for before, after in zip(frames, made, strict=True):
        expected, _ = chain.engines[0].restore(before.astype(before.dtype.newbyteorder("=")))
        np.testing.assert_array_equal(after, expected)


def test_no_more_than_three_frames_are_held(chain, film):
    count, size_bytes = 12, Frames(size=SIZE).size_bytes
    one = raw(film(1))
    taken, given, most = 0, 0, 0
    lock = threading.Lock()

    def read(view):
        nonlocal taken, most
        if taken == count:
            return 0
        view[:] = one
        with lock:
            taken += 1
            most = max(most, taken - given)
        return len(view)

    def write(data):
        nonlocal given
        assert len(data) == size_bytes
        with lock:
            given += 1

    seen = []
    restore_frames(
        chain, Frames(size=SIZE), read, write, lambda progress: seen.append(progress.count)
    )
    assert (taken, given) == (count, count)
    assert most <= 3
    assert seen == list(range(1, count + 1))


def test_a_last_frame_that_is_cut_off_is_told_and_loses_no_other(chain, film):
    source, sink = io.BytesIO(raw(film(2))[:-1]), io.BytesIO()
    with pytest.raises(InputError, match=r"cut off: 2,303 of 2,304 bytes came, after 1 whole"):
        restore_frames(chain, Frames(size=SIZE), source.readinto, sink.write)
    assert len(sink.getvalue()) == Frames(size=SIZE).size_bytes


def test_what_reading_and_writing_raise_comes_out(chain, film):
    def fail(data):
        raise OutputError("on purpose")

    with pytest.raises(OutputError, match="on purpose"):
        restore_frames(chain, Frames(size=SIZE), io.BytesIO(raw(film(2))).readinto, fail)
    with pytest.raises(OutputError, match="on purpose"):
        restore_frames(chain, Frames(size=SIZE), fail, io.BytesIO().write)
    with pytest.raises(InputError, match="No frame came"):
        restore_frames(chain, Frames(size=SIZE), io.BytesIO().readinto, io.BytesIO().write)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("derain", "-s", "32"), "-s '32' is not the size of a frame"),
        (("derain", "-s", "0x24"), "is not the size of a frame"),
        (("derian", "-s", "32x24"), "Did you mean derain?"),
        (("derain", "-s", "32x24", "--strength", "2"), "--strength '2' is not a number"),
        (("derain", "-s", "32x24", "--pix-fmt", "yuv420p"), "yuv420p"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(cli, monkeypatch, arguments, sentence):
    monkeypatch.setattr(sys, "stdin", None)
    refused = cli("frames", *arguments)
    assert refused.exit_code == UsageError.exit_code
    assert sentence in refused.stderr


def test_a_terminal_gives_and_takes_no_frames(cli, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    refused = cli("frames", "derain", "-s", "32x24")
    assert refused.exit_code == UsageError.exit_code
    assert "not to a terminal" in refused.stderr


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_the_lines_of_the_documentation_make_a_video(random_weights, tmp_path):
    root = Path(__file__).parents[1]
    lines = (root / "docs" / "frames.md").read_text(encoding="utf-8").split("```")[1]
    lines = lines.replace("640x360", "64x48").replace(
        "restore frames denoise",
        f"{sys.executable} -m restorecli frames derain --weights {random_weights}",
    )
    film = "ffmpeg -v error -f lavfi -i testsrc=size=64x48:rate=25 -frames:v 3 in.mp4"
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for script in (film, f"set -o pipefail\n{lines}"):
        subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=300
        )
    count = "ffmpeg -v error -i out.mp4 -f rawvideo -pix_fmt rgb24 - | wc -c"
    counted = subprocess.run(["bash", "-c", count], cwd=tmp_path, check=True, capture_output=True)
    assert int(counted.stdout) == 3 * 3 * 64 * 48
