"""Memory is asked before a picture is decoded, by what its header promises."""

from __future__ import annotations

import psutil
import pytest
from PIL import Image

from restorecli.errors import DeviceError, InputError
from restorecli.images import reading
from restorecli.images.needs import decoding_bytes
from restorecli.machine import cgroups
from tests import kinds, matrix

MEGA = 1_000_000


@pytest.fixture
def nothing_is_decoded(monkeypatch):
    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(reading, "_planes_by_pillow", decode)


def large(path):
    Image.new("L", (8_000, 8_000), 99).save(path)
    return path


@pytest.mark.usefixtures("nothing_is_decoded")
def test_max_memory_refuses_by_the_header(cli, tmp_path, identity_weights):
    limit = psutil.Process().memory_info().rss + 400 * MEGA
    outcome = cli(
        "derain", large(tmp_path / "a.png"), "--weights", identity_weights,
        "--max-memory", f"{limit // MEGA}MB",
    )  # fmt: skip
    assert outcome.exit_code == DeviceError.exit_code
    assert "decoding its 8000×8000 pixels takes about 1408 MB" in outcome.stderr
    assert "--max-memory" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == ["a.png"]


@pytest.mark.usefixtures("nothing_is_decoded")
def test_the_memory_of_a_container_refuses_by_the_header(
    cli, tmp_path, identity_weights, monkeypatch
):
    limit = cgroups._Memory(limit_bytes=900 * MEGA, used_bytes=400 * MEGA)
    monkeypatch.setattr(cgroups, "_memories", lambda: iter([limit]))
    outcome = cli("derain", large(tmp_path / "a.png"), "--weights", identity_weights)
    assert outcome.exit_code == DeviceError.exit_code
    assert "500 MB are left" in outcome.stderr


def test_max_pixels_is_told_as_before(cli, tmp_path, identity_weights):
    outcome = cli(
        "derain", large(tmp_path / "a.png"), "--weights", identity_weights,
        "--max-memory", "100MB", "--max-pixels", "2000000",
    )  # fmt: skip
    assert outcome.exit_code == InputError.exit_code
    assert "8000×8000 pixels, more than the limit of 2 million" in outcome.stderr


def test_every_kind_says_what_decoding_takes():
    for name, data in kinds.kinds().items():
        assert 14 <= decoding_bytes(data) <= 33, name
    assert decoding_bytes(kinds.tiff(kinds.smooth(), photometric="rgb")) == 14
    assert decoding_bytes(matrix.ICC) == 33


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_max_memory_holds_for_either_precision(cli, precision):
    """The peak is that of the process which measures; what these tests hold is not counted."""
    most = 600 * MEGA
    outcome = cli(
        "bench", "--model", "hint-denoise-packed", "--size", "1200x900", "--json",
        "--precision", precision, "--max-memory", f"{most // MEGA}MB",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.stderr
    (measured,) = outcome.lines[0]["measured"]
    assert measured["exact"]
    assert measured["peak_memory_bytes"] <= most
