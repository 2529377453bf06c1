"""What is printed in tables fits 80 columns; what is written is told, and pages are opened."""

from __future__ import annotations

import json
import re
import webbrowser

import numpy as np
import pytest
from PIL import Image

from restorecli import console
from restorecli.console import bytes_text
from restorecli.engine import bench
from restorecli.weights import registry
from restorecli.weights.install import import_file
from tests.conftest import TINY, save_weights
from tests.test_import import network_of


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns, without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)


@pytest.fixture
def opened(monkeypatch):
    """Pages that were opened in a browser."""
    pages = []
    monkeypatch.setenv("BROWSER", "some")
    monkeypatch.setattr(webbrowser, "open", lambda address: pages.append(address) or True)
    return pages


@pytest.fixture
def pairs(tmp_path, picture):
    """Folders of seven results, each a little darker than the one before, and of references."""
    for number, name in enumerate(["a" * 90, "b", "c", "d", "e", "f", "g"]):
        pixels = picture(32, 32, number)
        for folder, factor in (("ref", 1), ("out", 1 - 0.02 * (number + 1))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray((pixels * factor).astype(np.uint8)).save(
                tmp_path / folder / f"{name}.png"
            )
    return tmp_path / "out", "--ref", tmp_path / "ref"


def widest(outcome):
    return max(map(len, (outcome.stdout + outcome.stderr).splitlines()))


def test_the_list_of_models_fits_80_columns_and_can_be_narrowed(cli, tmp_path):
    listed = cli("models", "list")
    assert widest(listed) <= 80
    head, first, *_ = listed.stdout.splitlines()
    assert head.split() == ["id", "task", "size", "state", "score"]
    score = f"{registry()['hint-derain-packed'].measured[0].psnr_db:.2f}"
    assert first.split() == [
        "hint-derain-packed", "derain*", "7.5", "MB", "bundled", score, "dB", "Rain12"
    ]  # fmt: skip
    assert {line.split()[0] for line in listed.stdout.splitlines()[1:]} == set(registry())
    here = [
        m["id"] for m in json.loads(cli("models", "list", "--installed", "--json").stdout)["models"]
    ]
    assert here == [entry.id for entry in registry().values() if entry.is_installed]
    denoise = cli("models", "list", "--task", "denoise").stdout
    assert "derain" not in denoise
    assert "hint-denoise-packed" in denoise
    refused = cli("models", "list", "--task", "desno")
    assert refused.exit_code == 2
    assert "Did you mean desnow?" in refused.stderr


def test_a_long_id_has_a_line_of_its_own(cli, tmp_path):
    save_weights(tmp_path / "a.safetensors", network_of("hint")[1], "hint", TINY)
    name = "mine-" * 12 + "own"
    import_file(tmp_path / "a.safetensors", task="desnow", entry_id=name)
    listed = cli("models", "list", "--task", "desnow")
    assert widest(listed) <= 80
    lines = listed.stdout.splitlines()
    assert lines[lines.index(name) + 1].split()[:1] == ["desnow"]


def test_scores_fit_80_columns_and_the_worst_stand_below(cli, pairs, narrow):
    outcome = cli("metrics", *pairs, "--with", "delta_e2000", "--against", pairs[0])
    assert outcome.exit_code == 0
    assert "…" not in outcome.stdout.replace(" … ", "")
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", outcome.stdout)
    before, _, after = plain.partition("Worst by PSNR-RGB, dB\n")
    assert max(map(len, before.splitlines())) <= 80
    worst = after.splitlines()[:5]
    assert [line.split()[1] for line in worst[:2]] == ["g.png", "f.png"]
    assert [len(line.split()) for line in worst] == [2] * 5
    assert [float(line.split()[0]) for line in worst] == sorted(
        float(line.split()[0]) for line in worst
    )


def test_one_picture_is_not_called_worst(cli, pairs):
    assert "Worst" not in cli("metrics", pairs[0] / "b.png", "--ref", pairs[2] / "b.png").stdout


def test_bench_tells_each_network_when_it_is_measured(cli, monkeypatch):
    said = []

    def measured(trial):
        said.append(trial.model_id)
        return bench.Measured(
            model_id=trial.model_id, device="cpu", precision="fp32", height_px=8, width_px=8,
            elapsed_s=1, s_per_megapixel=2.5, predicted_memory_bytes=1, peak_memory_bytes=1,
            exact=True, strip_rows=8, tile_px=None,
        )  # fmt: skip

    monkeypatch.setattr(bench, "measure", measured)
    names = ("hint-derain-packed", "hint-denoise-packed")
    outcome = cli("bench", "--model", names[0], "--model", names[1])
    assert said == list(names)
    assert [f"{name}: 2.50 s/MP" for name in names] == outcome.stderr.splitlines()


def test_what_is_written_is_told_with_its_size(cli, pairs, photo_file, identity_weights, tmp_path):
    report = tmp_path / "r.csv"
    told = cli("metrics", *pairs, "--report", report)
    assert f"Wrote {report}, {bytes_text(report.stat().st_size)}" in told.stderr
    page = tmp_path / "c.html"
    assert f"Wrote {page}, " in cli("compare", pairs[0], pairs[2], "-o", page).stderr
    sheet = tmp_path / "s.png"
    two = (pairs[0] / "b.png", pairs[2] / "b.png")
    assert f"Wrote {sheet}, " in cli("compare", *two, "-o", sheet).stderr
    run = ("derain", photo_file(), "--weights", identity_weights, "--report")
    assert "Wrote " in cli(*run, tmp_path / "a.json").stderr
    assert cli(*run, tmp_path / "b.json", "-q", "--skip-existing").stderr == ""
    assert (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1800, "1.8 kB"), (7_600_000, "7.6 MB"),
     (104_700_000, "105 MB"), (52_000_000, "52 MB"), (3_400_000_000, "3.4 GB"),
     (9_960_000, "10 MB"), (2e13, "20000 GB")],
)  # fmt: skip
def test_sizes_are_told_as_people_do(size_bytes, text):
    assert bytes_text(size_bytes) == text


def test_a_page_is_opened_where_there_is_one(cli, pairs, opened, tmp_path):
    page = tmp_path / "r.html"
    assert cli("metrics", *pairs, "--report", page, "--open").exit_code == 0
    assert opened == [page.as_uri()]
    again = cli("compare", pairs[0], pairs[2], "-o", tmp_path / "c.html", "--open")
    assert again.exit_code == 0
    assert opened[1:] == [(tmp_path / "c.html").as_uri()]


@pytest.mark.parametrize("report", [[], ["--report", "r.csv"]])
def test_open_without_a_page_is_refused_before_any_work(cli, pairs, photo_file, opened, report):
    for command in (("metrics", *pairs), ("derain", photo_file())):
        refused = cli(*command, *report, "--open")
        assert refused.exit_code == 2
        assert "--open has no page to open." in refused.stderr
    assert opened == []
    refused = cli("spectral", photo_file("b.png"), "--open")
    assert refused.exit_code == 2
    assert "--page" in refused.stderr


def test_without_a_browser_the_page_is_named(cli, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    page = tmp_path / "r.html"
    told = cli("metrics", *pairs, "--report", page, "--open")
    assert told.exit_code == 0
    assert f"No browser could be started here: open {page} in one." in told.stderr


def test_a_file_that_is_gone_is_told_without_its_size(capsys, tmp_path):
    console.show_written(tmp_path / "gone.html")
    assert capsys.readouterr().err == f"Wrote {tmp_path / 'gone.html'}\n"
