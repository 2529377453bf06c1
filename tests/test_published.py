"""`--protocol published`: restored and scored as the authors of a checkpoint do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restorecli.engine import engine as engines
from restorecli.errors import UsageError
from restorecli.networks import NETWORKS
from restorecli.scoring.metrics import PROTOCOLS
from restorecli.weights import registry
from tests.conftest import TINY, pixels_of

TILES = 'tile_px = 32, overlap_px = 24, scoring = "snow100k", source = "Nobody: test.py"'
WHOLE = 'scoring = "rain_matlab", source = "Nobody: test.py"'


@pytest.fixture
def model(cli, random_weights, own_folder):
    """Import a network as ``ours`` whose authors test it as said; gives its options for `cli`."""

    def make(setting):
        imported = cli("models", "import", random_weights, "--task", "derain", "--id", "ours")
        assert imported.exit_code == 0, imported.stderr
        file = own_folder / "weights.toml"
        text = file.read_text()
        file.write_text(text.replace("[ours]", f"[ours]\npublished_setting = {{ {setting} }}"))
        return ("--model", "ours", "--protocol", "published")

    return make


def averaged_tiles(network, x, tile_px, stride_px):
    """Windows every ``stride_px``, the last one flush with the edge; their average: (C, H, W)."""
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    starts = [[*range(0, length - tile_px, stride_px), length - tile_px] for length in x.shape[1:]]
    for top in starts[0]:
        for left in starts[1]:
            window = (slice(None), slice(top, top + tile_px), slice(left, left + tile_px))
            with torch.no_grad():
                total[window] += network(x[window][None])[0]
            count[window] += 1
    return total / count


def test_tiles_are_those_of_the_authors_and_averaged(cli, model, photo_file, tmp_path):
    path, out = photo_file("in/a.png", 32, 52), tmp_path / "out"
    options = model(TILES)
    outcome = cli("derain", path, *options, "-o", out / "a.png", "--json", "--ref", path.parent)
    assert outcome.exit_code == 0, outcome.stderr
    torch.manual_seed(0)
    network = NETWORKS["hint"](**TINY)  # as in `random_weights`
    x = torch.tensor(pixels_of(path)).permute(2, 0, 1).float() / 255
    expected = averaged_tiles(network, x, 32, 8).clamp(0, 1) * 255
    written = torch.tensor(pixels_of(out / "a.png")).permute(2, 0, 1).float()
    assert (written - expected).abs().max() < 0.501
    row, summary = outcome.lines
    assert (row["exact"], row["tile_px"]) == (False, 32)
    settings = summary["settings"]
    assert (settings["protocol"], settings["precision"]) == ("snow100k", "fp32")
    assert settings["options"]["as_published"].startswith("tiles of 32 px averaged")
    assert "Nobody: test.py" in outcome.stderr


def test_whole_pictures_stay_whole_and_scores_are_those_of_the_protocol(
    cli, model, photo_file, tmp_path, monkeypatch
):
    for name in ("in/a.png", "ref/a.png"):
        photo_file(name, 160, 168)
    monkeypatch.setattr(engines, "free_bytes", lambda device: 1)  # auto would take tiles
    places = (tmp_path / "in", "-o", tmp_path / "out")
    outcome = cli("derain", *places, *model(WHOLE), "--ref", tmp_path / "ref", "--json")
    row, summary = outcome.lines
    assert row["exact"] is True
    assert summary["settings"]["protocol"] == "rain_matlab"
    scoring = ("--ref", tmp_path / "ref", "--protocol", "rain_matlab", "--json")
    assert (
        cli("metrics", tmp_path / "out", *scoring).lines[0]["scores_after"] == (row["scores_after"])
    )
    plain = tmp_path / "plain.png"
    cli("derain", tmp_path / "in/a.png", "--model", "ours", "--tile", "none", "-o", plain)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out/a.png"), pixels_of(plain))


def test_contradictions_and_what_is_not_recorded_are_refused(cli, model, photo_file):
    path, published = photo_file("in/a.png"), model(TILES)
    for options, sentence in (
        (["--tile", "128"], "--tile 128 contradicts --protocol published: tiles of 32 px"),
        (["--tile", "none"], "--tile none contradicts"),
        (["--overlap", "64"], "--overlap 64 contradicts"),
        (["--precision", "bf16"], "--precision bf16 contradicts"),
        (["--model", "hint-derain-packed"], "hint-derain-packed test it is not recorded"),
    ):
        outcome = cli("derain", path, *published, *options)
        assert outcome.exit_code == UsageError.exit_code
        assert sentence in outcome.stderr
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("setting", "tile", "overlap"), [(WHOLE, "none", "0"), (TILES, "32", "24")]
)
def test_what_agrees_is_no_contradiction(cli, model, photo_file, setting, tile, overlap):
    agreeing = ("--tile", tile, "--overlap", overlap, "--precision", "fp32")
    assert cli("derain", photo_file(), *model(setting), *agreeing).exit_code == 0


def test_a_file_alone_has_no_authors(cli, photo_file, random_weights):
    outcome = cli("derain", photo_file(), "--weights", random_weights, "--protocol", "published")
    assert outcome.exit_code == UsageError.exit_code
    assert "random.safetensors test it is not recorded" in outcome.stderr


def test_every_recorded_setting_names_a_protocol_and_most_published_networks_have_one():
    recorded = {i: e.published_setting for i, e in registry().items() if e.published_setting}
    assert {setting.scoring for setting in recorded.values()} <= PROTOCOLS.keys()
    assert not any(registry()[entry_id].is_bundled for entry_id in recorded)
    desnow, lowlight = recorded["hint-desnow"], recorded["hint-lowlight-real"]
    assert (desnow.tile_px, desnow.overlap_px) == (256, 128)
    assert (lowlight.tile_px, lowlight.overlap_px) == (384, 350)
    assert len(recorded) == 16
