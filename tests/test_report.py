import csv
import html
import io
import json
import math
import os
import re
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from restorecli.errors import OutputError, UsageError
from restorecli.files.atomic import write_atomically
from restorecli.report import (
    Comparison,
    LabelledPicture,
    Report,
    Row,
    Settings,
    check_destination,
    json_lines,
    json_schema,
    write,
)
from restorecli.report.html import html as page
from restorecli.report.pictures import link, source
from restorecli.report.words import duration_text, number, printable, score_text, size_text, when

HOSTILE = [
    "<script>alert(1)</script>.png",
    "\"quoted\" & 'single'.png",
    "new\nline.png",
    "cloud 🌧️.png",
    "</script><img src=x onerror=alert(1)>.png",
    "{{data}} $money$ | *pipe* [a](b) `c`.png",
    "=HYPERLINK(1)",
    "line\u2028separator \u202egnp.exe",
]
SCHEMA_FILE = Path(__file__).parents[1] / "restorecli" / "report" / "schema.json"


@pytest.fixture
def report():
    """Rows of every status, with scores before and after, one of them infinite."""
    rows = [
        Row(name=name, input=f"in/{name}", output=f"out/{name}", reference=f"gt/{name}",
            height_px=20, width_px=30, exact=True, elapsed_s=0.5, peak_memory_bytes=2**28,
            scores_before={"psnr_y": 20.0 + i, "ssim_y": 0.5},
            scores_after={"psnr_y": math.inf if i == 0 else 25.0 + i, "ssim_y": 0.75},
            others=(LabelledPicture(label=name, path=f"other/{name}", scores={"psnr_y": 22.5}),))
        for i, name in enumerate(HOSTILE)
    ]  # fmt: skip
    rows.append(Row(name="bad.png", input="in/bad.png", status="failed", error=HOSTILE[0]))
    rows.append(Row(name="done.png", input="in/done.png", status="skipped"))
    return Report(
        title=HOSTILE[0],
        created="2026-01-02T03:04:05+00:00",
        elapsed_s=4.0,
        settings=Settings(
            command="derain", protocol="rain", model_id=HOSTILE[4], versions={"python": "3"}
        ),
        rows=tuple(rows),
        comparisons=(
            Comparison(
                score="psnr_y", label=HOSTILE[4], count=7, infinite=1, mean_difference=1.5,
                low=1.0, high=2.0, higher=8, lower=0,
            ),
        ),
        notes=(HOSTILE[4],),
    )  # fmt: skip


def written(report, tmp_path, ending):
    path = tmp_path / f"report.{ending}"
    write(report, path)
    return path.read_text(encoding="utf-8")


# Data


def test_a_report_is_frozen_and_refuses_unknown_fields(report):
    with pytest.raises(ValidationError):
        report.title = "other"
    with pytest.raises(ValidationError):
        Row(name="a", colour="red")
    with pytest.raises(ValidationError, match="NaN"):
        Row(name="a", scores_after={"psnr_y": math.nan})


def test_the_summary_leaves_infinite_scores_out_and_counts_them(report):
    after = next(s for s in report.summary if (s.score, s.of) == ("psnr_y", "after"))
    assert (after.count, after.infinite, after.mean, after.minimum) == (8, 1, 29.0, 26.0)
    assert after.worst[0] == HOSTILE[1]


def test_exit_codes_follow_the_rows(report):
    assert report.exit_code == 1
    only = {"rows": report.rows[:2]}
    assert report.model_copy(update=only).exit_code == 0
    assert report.model_copy(update={"rows": (report.rows[-2],)}).exit_code == 3


# JSON


def test_json_comes_back_as_the_same_report(report, tmp_path):
    text = written(report, tmp_path, "json")
    assert Report.from_json(text) == report
    assert json.loads(text)["rows"][0]["scores_after"]["psnr_y"] == "Infinity"


def test_json_is_standard_json_that_fits_the_published_schema(report, tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    data = json.loads(written(report, tmp_path, "json"), parse_constant=refuse)
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    del data["rows"][0]["name"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_the_published_schema_is_that_of_the_code():
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema()


def test_json_lines_are_one_object_per_line_whatever_the_names(report, tmp_path):
    lines = written(report, tmp_path, "jsonl").splitlines()  # also splits at U+2028
    objects = [json.loads(line) for line in lines]
    assert [o["name"] for o in objects[:-1]] == [row.name for row in report.rows]
    assert objects[-1]["type"] == "summary"
    assert objects[-1]["counts"] == {"ok": 8, "failed": 1, "skipped": 1}
    assert list(json_lines(report)) == lines


# CSV and Markdown


def test_csv_holds_names_as_they_are_and_no_formula(report, tmp_path):
    table = list(csv.DictReader(io.StringIO(written(report, tmp_path, "csv"), newline="")))
    expected = [f"./{n}" if n.startswith("=") else n for n in HOSTILE]
    assert [line["name"] for line in table] == [*expected, "bad.png", "done.png"]
    assert table[0]["psnr_y_after"] == "inf"
    assert float(table[1]["psnr_y_after"]) == 26.0
    assert table[-1]["psnr_y_after"] == ""
    assert not any(cell.startswith(("=", "+", "@")) for line in table for cell in line.values())


def test_markdown_shows_names_as_text_in_tables_that_stay_tables(report, tmp_path):
    from markdown_it import MarkdownIt

    text = written(report, tmp_path, "md")
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script" not in rendered
    assert "<img" not in rendered
    assert "<a " not in rendered
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)]
    for name in HOSTILE:
        assert printable(name) in cells


# HTML


def test_html_holds_hostile_text_only_escaped(report, tmp_path):
    text = written(report, tmp_path, "html")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "</script><img" not in text
    assert text.count("</script>") == 2
    shown = html.unescape(text)
    for name in HOSTILE:
        assert printable(name) in shown


def test_html_asks_no_network_for_anything(report, tmp_path):
    text = written(report, tmp_path, "html")
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http:" not in without_namespaces
    assert "https:" not in without_namespaces
    assert "default-src 'none'" in html.unescape(text)


def test_html_draws_the_distribution_with_protocol_and_unit(report):
    text = page(report, folder=Path())
    assert text.count("<svg") == 2
    assert "PSNR-Y, dB (protocol rain)" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_page_without_plots_says_so_to_its_maker_alone(report, cli, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = page(report, folder=tmp_path)
    assert "Distribution" not in text
    assert "pip " not in text
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    both = (tmp_path / "a.png", "--ref", tmp_path / "a.png")
    told = cli("metrics", *both, "--report", tmp_path / "r.html").stderr
    assert "The page has no plots: matplotlib is not here. Install it: " in told


def test_an_empty_report_is_a_page_too(tmp_path):
    empty = Report(title="nothing", created="x", settings=Settings(command="derain"), rows=())
    for ending in ("json", "jsonl", "csv", "md", "html"):
        assert written(empty, tmp_path, ending)


@pytest.fixture
def pictures(tmp_path):
    """A report over one real picture, whose file name is hostile too."""
    path = tmp_path / "a #1? 100%.png"
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint16).reshape(48, 64, 3).astype("u1")).save(
        path
    )
    row = Row(name="a", input=str(path), output=str(path))
    settings = Settings(command="derain")
    return path, Report(title="t", created="x", settings=settings, rows=(row,))


def test_small_pictures_are_inside_the_page_and_large_ones_linked(pictures, tmp_path):
    path, report = pictures
    assert '"src": "data:image/png;base64,' in page(report, folder=tmp_path)
    linked = page(report, folder=tmp_path / "reports", inline_bytes=path.stat().st_size - 1)
    assert '"src": "../a%20%231%3F%20100%25.png"' in linked
    assert '"thumbnail": "data:image/webp' in linked


def test_a_format_browsers_do_not_know_becomes_a_reduced_copy(tmp_path):
    Image.new("RGB", (2000, 1000)).save(tmp_path / "x.tiff")
    found = source(tmp_path / "x.tiff", tmp_path, inline=False)
    assert found.reduced
    assert found.url.startswith("data:image/webp")
    missing = source(tmp_path / "none.png", tmp_path, inline=True)
    assert missing.url is None


def test_what_only_our_reader_opens_is_shown(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.full((10, 12, 3), 0.5, np.float32), photometric="rgb")
    found = source(tmp_path / "x.tif", tmp_path, inline=True)
    assert found.url.startswith("data:image/webp")


def test_a_link_never_names_a_scheme(tmp_path):
    assert link(tmp_path / "javascript:alert(1)", tmp_path) == "javascript%3Aalert%281%29"


# Files


def test_a_write_that_fails_leaves_the_old_file_and_no_other(report, tmp_path, monkeypatch):
    target = tmp_path / "report.md"
    target.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(report, target)
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]
    assert target.read_text() == "old"


def test_a_destination_is_checked_before_the_work(tmp_path):
    (tmp_path / "there.csv").write_text("")
    with pytest.raises(OutputError, match="exists already"):
        check_destination(tmp_path / "there.csv")
    check_destination(tmp_path / "there.csv", overwrite=True)
    with pytest.raises(UsageError, match=r"its ending is '\.xls'"):
        check_destination(tmp_path / "x.xls")
    with pytest.raises(OutputError, match="does not exist"):
        check_destination(tmp_path / "none" / "x.csv")


def test_temporary_names_fit_any_directory(tmp_path):
    long = tmp_path / ("x" * 250 + ".md")
    write_atomically(long, b"text", overwrite=True)
    assert long.read_bytes() == b"text"


# Words


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [(28.476, "psnr_y", "28.48"), (0.79747, "ssim_y", "0.7975"), (math.inf, "psnr_y", "∞"),
     (None, "psnr_y", ""), (-1.2, "delta_e2000", "−1.20")],
)  # fmt: skip
def test_numbers_have_the_digits_that_mean_something(value, key, text):
    assert number(value, key) == text


def test_words_for_sizes_times_and_scores():
    assert size_text(300 * 2**20) == "300 MiB"
    assert [duration_text(s) for s in (0.5, 14.23, 125, 7265)] == [
        "500 ms", "14.2 s", "2 min 05 s", "2 h 01 min"]  # fmt: skip
    assert score_text("psnr_y", 28.476) == "PSNR-Y 28.48 dB"
    assert score_text("ssim_rgb", 0.5) == "SSIM-RGB 0.5000"
    assert when("2026-11-21T02:15:13+00:00") == "2026-11-21 02:15 UTC"
    assert when("yesterday") == "yesterday"


def test_names_are_shown_on_one_line_without_control_characters():
    assert printable("a\nb\x1b[31m\u202e\udcff") == "a\\nb\\x1b[31m\\u202e\\xff"
