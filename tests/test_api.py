"""The Python interface gives what the command gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import restorecli
from restorecli.errors import WeightsError
from tests.conftest import pixels_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "python_api.py"


def test_an_image_equals_what_the_command_writes(cli, photo_file, random_weights, monkeypatch):
    photo = photo_file("a.png", 40, 56)
    cli("derain", photo, "--weights", random_weights)
    expected = pixels_of(photo.with_name("a.derain.png"))
    engine = restorecli.load(random_weights, device="cpu")
    np.testing.assert_array_equal(restorecli.restore_image(pixels_of(photo), engine), expected)
    by_path = restorecli.restore_image(pixels_of(photo), str(random_weights), device="cpu")
    np.testing.assert_array_equal(by_path, expected)
    assert not np.array_equal(expected, pixels_of(photo))


def test_gray_stays_gray_and_other_arrays_are_refused(picture):
    gray = picture(24, 32)[..., 0]
    assert restorecli.restore_image(gray, "hint-derain-packed", device="cpu").shape == (24, 32)
    for wrong in (gray / 255.0, picture(8, 8)[..., :2], gray[None, None]):
        with pytest.raises(ValueError, match="must be uint8 of shape"):
            restorecli.restore_image(wrong, "hint-derain-packed")


def test_an_unknown_model_is_answered_with_the_nearest_one():
    with pytest.raises(WeightsError, match="Did you mean 'hint-derain-packed'"):
        restorecli.load("hint-derain-compacd")


def test_the_example_runs_and_importing_the_package_loads_nothing_heavy(photo_file, tmp_path):
    source, target = photo_file("in.png", 24, 40), tmp_path / "out.png"
    root = EXAMPLE.parents[1]
    subprocess.run(
        [sys.executable, "-m", "examples.python_api", source, target], cwd=root, check=True
    )
    with Image.open(target) as made:
        assert made.size == (40, 24)
    code = "import sys, restorecli; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
