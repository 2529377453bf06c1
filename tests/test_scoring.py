import json
import math
import os
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from restorecli.commands.compare import compare
from restorecli.commands.metrics import metrics
from restorecli.errors import InputError, OutputError, QualityError, UsageError
from restorecli.images import seen
from restorecli.images.finding import find_pictures
from restorecli.report import Report
from restorecli.scoring import gates, statistics
from restorecli.scoring import report as reports
from restorecli.scoring import score as scoring
from restorecli.scoring.metrics import PROTOCOLS, score
from restorecli.scoring.metrics.spectra import SPECTRAL_PROTOCOLS
from restorecli.scoring.pairing import pair

RAIN = PROTOCOLS["rain"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def picture(rng):
    """A function that writes a random picture and returns its pixels."""

    def write(path, *, shape=(24, 32, 3), dtype=np.uint8, near=None, spread=8):
        path.parent.mkdir(parents=True, exist_ok=True)
        largest = np.iinfo(dtype).max
        if near is None:
            pixels = rng.integers(0, largest, shape, dtype)
        else:
            noise = rng.normal(0, spread, near.shape)
            pixels = np.clip(near + noise, 0, largest).round().astype(dtype)
        encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1]
        path.write_bytes(encoded.tobytes())
        return pixels

    return write


@pytest.fixture
def folders(tmp_path, picture):
    """``out`` and ``gt`` with three pictures each, and their pixels by name."""
    pixels = {}
    for name in ("1.png", "2.png", "deep/10.png"):
        clean = picture(tmp_path / "gt" / name)
        pixels[name] = (picture(tmp_path / "out" / name, near=clean), clean)
    return tmp_path, pixels


@pytest.fixture
def cli():
    """Run a command as a user would; RestoreError stays an exception."""
    app = typer.Typer()
    app.command("metrics")(metrics)
    app.command("compare")(compare)

    def run(*args, raises=None):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        if raises is not None:
            assert isinstance(result.exception, raises), result.output
        elif result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def names(pairing):
    return [(str(a.relative), str(b.relative)) for a, b in pairing.pairs]


def paired(root, **options):
    return pair(find_pictures([root / "out"]), find_pictures([root / "gt"]), **options)


def touch(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12)).save(path)


# Pairing


def test_pairs_are_found_by_relative_path_in_natural_order(folders):
    assert names(paired(folders[0])) == [(n, n) for n in ("1.png", "2.png", "deep/10.png")]


def test_the_ending_may_differ_and_the_same_folder_is_preferred(tmp_path):
    touch(tmp_path, "out/a/x.png", "gt/a/x.bmp", "gt/b/x.bmp")
    assert names(paired(tmp_path, allow_missing=True)) == [("a/x.png", "a/x.bmp")]


def test_a_stem_is_found_in_another_folder(tmp_path):
    touch(tmp_path, "out/x.png", "gt/a/x.png")
    assert names(paired(tmp_path)) == [("x.png", "a/x.png")]


@pytest.mark.parametrize(
    ("pattern", "target", "partner"),
    [
        ("{stem}_clean", "x.png", "x_clean.png"),
        ("{stem}_rain={stem}_clean", "x_rain.png", "x_clean.png"),
        ("{stem}_{any}={stem}", "1400_0.8_0.2.png", "1400.png"),
        ("{stem}.derain={stem}", "x.derain.png", "x.png"),
    ],
)
def test_a_pattern_says_how_names_differ(tmp_path, pattern, target, partner):
    touch(tmp_path, f"out/{target}", f"gt/{partner}")
    assert names(paired(tmp_path, pattern=pattern)) == [(target, partner)]


def test_several_targets_may_share_a_reference_by_pattern(tmp_path):
    touch(tmp_path, "out/7_1.png", "out/7_2.png", "gt/7.png")
    assert len(paired(tmp_path, pattern="{stem}_{any}={stem}").pairs) == 2


@pytest.mark.parametrize("pattern", ["clean", "{stem}{stem}=x", "{stem}=clean", "a/{stem}"])
def test_a_malformed_pattern_is_a_usage_error(folders, pattern):
    with pytest.raises(UsageError, match="must contain"):
        paired(folders[0], pattern=pattern)


def test_two_candidates_are_an_error(tmp_path):
    touch(tmp_path, "out/x.png", "gt/a/x.png", "gt/b/x.png")
    with pytest.raises(UsageError, match=r"'x\.png' could go with 'a/x\.png', 'b/x\.png'"):
        paired(tmp_path)


def test_two_files_of_one_name_for_one_reference_are_an_error(tmp_path):
    touch(tmp_path, "out/x.png", "out/x.bmp", "gt/x.png")
    with pytest.raises(UsageError, match=r"both go with 'x\.png'"):
        paired(tmp_path)


def test_a_missing_reference_is_an_error_unless_allowed(folders):
    root, _ = folders
    (root / "gt" / "2.png").unlink()
    with pytest.raises(InputError, match=r"1 pictures have no partner .*'2\.png'"):
        paired(root)
    pairing = paired(root, allow_missing=True)
    assert [str(p.relative) for p in pairing.without_partner] == ["2.png"]
    assert len(pairing.pairs) == 2


def test_a_reference_nobody_restored_is_an_error_too(folders):
    (folders[0] / "out" / "2.png").unlink()
    with pytest.raises(InputError, match=r"are the partner of nothing: '2\.png'"):
        paired(folders[0])


def test_pictures_are_known_by_content(tmp_path):
    touch(tmp_path, "out/x.png", "out/.hidden.png")
    (tmp_path / "out" / "x.png").rename(tmp_path / "out" / "x.dat")
    (tmp_path / "out" / "notes.png").write_text("<html>")
    found = find_pictures([tmp_path / "out"])
    assert [str(p.relative) for p in found.pictures] == ["x.dat"]
    assert found.ignored == 1


def test_one_file_against_one_file_needs_no_common_name(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    pairing = pair(find_pictures([tmp_path / "a.png"]), find_pictures([tmp_path / "b.png"]))
    assert names(pairing) == [("a.png", "b.png")]


def test_nothing_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="There is no file or folder"):
        find_pictures([tmp_path / "none"])
    with pytest.raises(InputError, match="No picture in"):
        find_pictures([tmp_path])


# Reading


def test_orientation_is_applied_and_transparency_is_seen_over_white(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: the stored picture is wide, the seen one tall
    Image.new("RGB", (20, 10), (9, 9, 9)).save(tmp_path / "turned.jpg", exif=exif)
    assert seen.read_pixels(tmp_path / "turned.jpg").shape == (20, 10, 3)
    Image.new("RGBA", (12, 12), (0, 0, 0, 51)).save(tmp_path / "glass.png")
    assert np.all(seen.read_pixels(tmp_path / "glass.png") == 204)
    Image.new("L", (12, 14), 7).save(tmp_path / "gray.png")
    assert seen.read_pixels(tmp_path / "gray.png").shape == (14, 12)


def test_sixteen_bits_are_read_as_they_are(tmp_path, picture):
    pixels = picture(tmp_path / "wide.png", dtype=np.uint16)
    assert np.array_equal(seen.read_pixels(tmp_path / "wide.png"), pixels)


# Scoring


def score_rows(root, **options):
    plan = scoring.plan([root / "out"], root / "gt", against=options.pop("against", None))
    return list(scoring.score_all(plan.tasks, RAIN, **options))


def test_rows_hold_the_scores_of_the_arrays(folders):
    root, pixels = folders
    rows = score_rows(root)
    assert [row.name for row in rows] == list(pixels)
    for row in rows:
        assert row.scores_after == score(*pixels[row.name], RAIN)
        assert (row.height_px, row.width_px) == (24, 32)


def test_processes_give_the_same_rows_as_one_process(folders, monkeypatch):
    monkeypatch.setattr(scoring, "WORTH_A_POOL", 1)
    without_time = {"elapsed_s": None}
    one = [replace(row, **without_time) for row in score_rows(folders[0], jobs=1)]
    two = [replace(row, **without_time) for row in score_rows(folders[0], jobs=2)]
    assert one == two


def test_one_bad_picture_is_recorded_and_the_rest_go_on(folders, picture):
    root, _ = folders
    picture(root / "out" / "2.png", shape=(24, 30, 3))
    rows = score_rows(root)
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert "30×24 against a reference of 32×24" in rows[1].error
    report = reports.compose_report(rows, RAIN, title="t")
    assert report.exit_code == 1
    assert report.counts == {"ok": 2, "failed": 1, "skipped": 0}


def test_identical_pictures_are_counted_and_left_out_of_the_mean(folders):
    root, pixels = folders
    (root / "out" / "1.png").write_bytes((root / "gt" / "1.png").read_bytes())
    report = reports.compose_report(score_rows(root), RAIN, title="t")
    summary = next(s for s in report.summary if s.score == "psnr_y")
    others = [score(*pixels[name], RAIN)["psnr_y"] for name in ("2.png", "deep/10.png")]
    assert (summary.count, summary.infinite) == (3, 1)
    assert summary.mean == pytest.approx(np.mean(others))
    assert "1.png" not in summary.worst


def test_the_worst_five_come_worst_first(tmp_path, picture):
    for number in range(7):
        clean = picture(tmp_path / "gt" / f"{number}.png")
        picture(tmp_path / "out" / f"{number}.png", near=clean, spread=5 + 5 * number)
    report = reports.compose_report(score_rows(tmp_path), RAIN, title="t")
    assert report.summary[0].worst == ("6.png", "5.png", "4.png", "3.png", "2.png")


# Comparing two methods


def test_the_paired_difference_is_the_mean_of_the_differences(folders, picture):
    root, pixels = folders
    theirs = {
        name: picture(root / "theirs" / name, near=clean, spread=30)
        for name, (_, clean) in pixels.items()
    }
    rows = score_rows(root, against=root / "theirs", other_label="theirs")
    comparison = statistics.compare_methods(rows, "theirs")[0]
    differences = [
        score(ours, clean, RAIN)["psnr_y"] - score(theirs[name], clean, RAIN)["psnr_y"]
        for name, (ours, clean) in pixels.items()
    ]
    assert comparison.mean_difference == pytest.approx(np.mean(differences))
    assert comparison.low <= comparison.mean_difference <= comparison.high
    assert (comparison.higher, comparison.lower, comparison.count) == (3, 0, 3)


def test_the_bootstrap_interval_nears_the_normal_one_and_is_repeatable(rng):
    differences = rng.normal(0.5, 2, 400)
    low, high = statistics.bootstrap_interval(differences)
    half = 1.96 * differences.std() / math.sqrt(400)
    assert low == pytest.approx(differences.mean() - half, abs=0.02)
    assert high == pytest.approx(differences.mean() + half, abs=0.02)
    assert statistics.bootstrap_interval(differences) == (low, high)
    assert statistics.bootstrap_interval(differences[:1]) == (None, None)


# The gate


def test_a_gate_fails_below_the_mean_and_passes_at_it(folders):
    report = reports.compose_report(score_rows(folders[0]), RAIN, title="t")
    mean = report.summary[0].mean
    gates.check_gates(report, {"psnr_y": mean})
    with pytest.raises(QualityError, match=r"The mean psnr_y is \d+\.\d{4}, below the limit of"):
        gates.check_gates(report, {"psnr_y": mean + 0.01})


def test_a_gate_on_a_distance_fails_above(folders):
    extras = ["delta_e2000"]
    rows = score_rows(folders[0], extras=extras)
    report = reports.compose_report(rows, RAIN, title="t", extras=extras)
    with pytest.raises(QualityError, match=r"above the limit of 0\.1"):
        gates.check_gates(report, {"delta_e2000": 0.1})
    assert report.summary[-1].worst[0] == max(
        rows, key=lambda row: row.scores_after["delta_e2000"]
    ).name  # fmt: skip


@pytest.mark.parametrize("text", ["psnr_rgb=30", "psnr_y", "psnr_y=high", "psnr_y=nan"])
def test_a_gate_that_cannot_be_checked_is_a_usage_error(text):
    with pytest.raises(UsageError, match="--fail-under must look like psnr_y=30"):
        gates.parse_gates([text], RAIN, [])


# The commands


def test_metrics_prints_table_summary_and_protocol(cli, folders):
    root, _ = folders
    result = cli("metrics", root / "out", "--ref", root / "gt", "--protocol", "rain100l")
    assert result.exit_code == 0
    for text in ("Protocol rain", "deep/10.png", "PSNR-Y, dB", "median", "Worst by"):
        assert text in result.stdout


def test_metrics_as_json_lines_ends_with_the_summary(cli, folders):
    root, _ = folders
    result = cli("metrics", root / "out", "--ref", root / "gt", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["image"] * 3 + ["summary"]
    assert lines[-1]["settings"]["protocol"] == "rgb"


def test_metrics_writes_every_report_before_the_gate_fails(cli, folders):
    root, _ = folders
    files = [root / f"scores.{ending}" for ending in ("json", "jsonl", "csv", "md", "html")]
    options = [option for file in files for option in ("--report", file)]
    args = ["metrics", root / "out", "--ref", root / "gt", "--fail-under", "psnr_rgb=99", *options]
    cli(*args, raises=QualityError)
    assert all(file.stat().st_size for file in files)
    assert Report.from_json(files[0].read_text()).counts["ok"] == 3
    cli(*args, raises=OutputError)  # they exist now
    cli(*args, "--overwrite", raises=QualityError)


def test_an_interrupted_run_still_writes_what_is_done(cli, folders, monkeypatch):
    root, _ = folders
    whole = scoring.score_all

    def interrupted(*args, **options):
        yield next(whole(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "score_all", interrupted)
    file = root / "scores.json"
    result = cli("metrics", root / "out", "--ref", root / "gt", "--report", file)
    assert result.exit_code == 130
    report = Report.from_json(file.read_text())
    assert report.interrupted
    assert [row.name for row in report.rows] == ["1.png"]


def test_metrics_against_itself_differs_by_nothing(cli, folders):
    root, _ = folders
    result = cli("metrics", root / "out", "--ref", root / "gt", "--against", root / "out")
    assert "+0.000 … +0.000" in result.stdout


def test_metrics_lists_what_was_left_out(cli, folders):
    root, _ = folders
    (root / "gt" / "2.png").unlink()
    cli("metrics", root / "out", "--ref", root / "gt", raises=InputError)
    result = cli("metrics", root / "out", "--ref", root / "gt", "--allow-missing")
    assert "No reference for 2.png; left out." in result.stderr


def test_metrics_with_no_usable_pair_exits_with_3(cli, tmp_path, picture):
    picture(tmp_path / "out" / "1.png")
    picture(tmp_path / "gt" / "1.png", shape=(20, 20, 3))
    result = cli("metrics", tmp_path / "out", "--ref", tmp_path / "gt")
    assert result.exit_code == 3


@pytest.mark.parametrize("file", ["scores.xlsx", "scores", "none/scores.csv"])
def test_a_report_that_cannot_be_written_is_found_before_the_work(cli, folders, file):
    root, _ = folders
    args = ("metrics", root / "nowhere", "--ref", root / "gt", "--report", root / file)
    result = cli(*args, raises=(UsageError, OutputError))
    assert "nowhere" not in str(result.exception)


def test_protocols_are_listed_with_their_source(cli):
    result = cli("metrics", "--list-protocols")
    for protocol in PROTOCOLS.values():
        assert protocol.name in result.stdout
        assert protocol.source in result.stdout
    listed = cli("metrics", "--list-protocols", "--json").stdout.splitlines()
    names = [json.loads(line)["name"] for line in listed]
    assert names == [*PROTOCOLS, *SPECTRAL_PROTOCOLS]


def test_metrics_without_reference_is_a_usage_error(cli):
    cli("metrics", "x.png", raises=UsageError)


def test_compare_writes_a_sheet_with_every_version(cli, folders):
    root, pixels = folders
    result = cli("compare", root / "gt", root / "out", root / "gt", "-o", root / "sheet.png")
    assert result.exit_code == 0
    with Image.open(root / "sheet.png") as sheet:
        assert sheet.width == 3 * 32 + 4 * 8
        sheet_pixels = np.asarray(sheet)
    assert np.array_equal(sheet_pixels[28:52, 8:40], pixels["1.png"][1])
    assert np.array_equal(sheet_pixels[28:52, 48:80], pixels["1.png"][0])


def test_compare_writes_a_page(cli, folders):
    root, _ = folders
    cli("compare", root / "gt" / "1.png", root / "out" / "1.png", "-o", root / "page.html")
    assert (root / "page.html").read_text().startswith("<!doctype html>")


def test_compare_needs_two_of_a_kind(cli, folders):
    root, _ = folders
    cli("compare", root / "gt", "-o", root / "x.html", raises=UsageError)
    cli("compare", root / "gt", root / "out" / "1.png", "-o", root / "x.html", raises=UsageError)
    cli("compare", root / "gt", root / "out", "-o", root / "x.gif", raises=UsageError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_that_is_not_utf8_is_scored_and_shown(folders):
    root, _ = folders
    for folder in ("out", "gt"):
        source = root / folder / "1.png"
        source.rename(os.fsdecode(os.fsencode(root / folder) + b"/\xff.png"))
    rows = score_rows(root)
    assert [row.status for row in rows] == ["ok"] * 3
    assert "\\xff.png" in [row.name for row in rows]
