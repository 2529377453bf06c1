"""Names, lists, streams, resuming and what replaces what, through the command."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorecli.engine import engine as engines
from restorecli.errors import InputError, OutputError, UsageError
from restorecli.images import FileOptions, Photo, read_photo
from restorecli.runs.manifest import LOCK, MANIFEST
from tests.conftest import pixels_of
from tests.matrix import exif_of


def files_in(folder):
    found = (p for p in Path(folder).rglob("*") if p.is_file() and p.name not in {MANIFEST, LOCK})
    return sorted(str(p.relative_to(folder)) for p in found)


@pytest.fixture
def derain(cli, identity_weights, monkeypatch, tmp_path):
    """`restore derain … --weights identity` in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli("derain", *arguments, "--weights", identity_weights)


def test_patterns_and_lists_name_inputs_in_natural_order(derain, photo_file, tmp_path):
    for name in ("a10.png", "a2.png", "b.png", "@c.png"):
        photo_file(name, 8, 8)
    outcome = derain("a*.png", "-o", "one", "--json")
    assert [Path(row["input"]).name for row in outcome.lines[:-1]] == ["a2.png", "a10.png"]
    (tmp_path / "list.txt").write_bytes(b"b.png\n\na2.png\r\n@c.png\n")
    outcome = derain("@list.txt", "-o", "two", "--json")
    assert [row["input"] for row in outcome.lines[:-1]] == ["b.png", "a2.png", "@c.png"]
    assert derain("@c.png", "-o", "three").exit_code == 0  # a file that is there comes first
    missing = derain("nothing*.png")
    assert missing.exit_code == InputError.exit_code
    assert "no file matches" in missing.stderr
    assert derain("@nowhere.txt").exit_code == InputError.exit_code


def test_lists_cannot_lead_results_out_of_their_folder(derain, photo_file, tmp_path):
    photo_file("up/a.png", 8, 8)
    (tmp_path / "here").mkdir()
    (tmp_path / "list").write_bytes(b"here/../up/../up/a.png\0")
    assert derain("@list", "-o", "here/out").exit_code == 0
    assert files_in(tmp_path / "here") == ["out/a.png"]


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.png",
        "🌧️ rain.png",
        "-leading.png",
        "'; rm -rf *.png",
        "e\u0301.png",
        "x" * 251 + ".png",
    ],
)
def test_names_of_every_kind_come_back(derain, photo_file, name):
    path = photo_file(f"in/{name}", 8, 8)
    assert derain("in", "-o", "out").exit_code == 0
    assert files_in("out") == [name]
    np.testing.assert_array_equal(pixels_of(Path("out") / name), pixels_of(path))


def test_a_name_that_becomes_too_long_is_told_and_the_others_go_on(derain, photo_file):
    photo_file("x" * 251 + ".png", 8, 8)
    photo_file("a.png", 8, 8)
    outcome = derain("a.png", "x" * 251 + ".png")
    assert outcome.exit_code == 1
    assert "at most 255" in outcome.stderr
    assert Path("a.derain.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="names there have no dash problem")
def test_a_leading_dash_after_two_dashes(derain, photo_file, cli, identity_weights):
    photo_file("-a.png", 8, 8)
    assert cli("derain", "--weights", identity_weights, "--", "-a.png").exit_code == 0
    assert Path("-a.derain.png").exists()


def test_a_template_names_results(derain, photo_file):
    photo_file("in/a.jpg", 8, 8)
    assert derain("in", "-o", "out", "--name", "{task}_{stem}_{model}{suffix}").exit_code == 0
    assert files_in("out") == ["derain_a_identity.jpg"]
    assert derain("in/a.jpg", "--name", "{stem}.png").exit_code == 0
    assert Path("in/a.png").exists()


@pytest.mark.parametrize(
    "template",
    [
        "../{stem}{suffix}", "{stem}/../x", "a\\{stem}", "{stem.__class__}", "{0}", "{stem!r}",
        "{home}", "", "{stem:>99}",
    ],
)  # fmt: skip
def test_templates_cannot_play_tricks(derain, photo_file, template):
    photo_file("in/a.png", 8, 8)
    outcome = derain("in/a.png", "--name", template)
    assert outcome.exit_code == UsageError.exit_code
    assert "--name" in outcome.stderr
    assert files_in("in") == ["a.png"]


def test_standard_input_to_standard_output(derain, photo_file, monkeypatch):
    path = photo_file("a.png", 8, 8)
    received = io.BytesIO()

    class Stream:
        def __init__(self, buffer):
            self.buffer = buffer

        def write(self, text):
            raise AssertionError(f"words on stdout: {text!r}")

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdin", Stream(io.BytesIO(path.read_bytes())))
    monkeypatch.setattr(sys, "stdout", Stream(received))
    from restorecli import cli as command_line

    weights = str(path.parent / "identity.safetensors")
    monkeypatch.setattr(sys, "argv", ["restore", "derain", "-", "--weights", weights])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert not ended.value.code
    np.testing.assert_array_equal(pixels_of(io.BytesIO(received.getvalue())), pixels_of(path))


def test_json_and_a_picture_do_not_share_stdout(derain, photo_file):
    assert derain(photo_file(), "-o", "-", "--json").exit_code == UsageError.exit_code


def test_resume_skips_what_is_finished_and_redoes_what_changed(derain, photo_file, picture):
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        photo_file(name, 8, 8)
    assert derain("in", "-o", "out").exit_code == 0

    def states(*options):
        outcome = derain("in", "-o", "out", "--resume", "--json", *options)
        assert outcome.exit_code == 0, outcome.stderr
        return [row["status"] for row in outcome.lines[:-1]]

    assert states() == ["skipped"] * 3
    Path("out/a.png").unlink()
    Image.fromarray(picture(9, 9, seed=5)).save("in/b.png")
    assert states() == ["ok", "ok", "skipped"]
    assert pixels_of("out/b.png").shape == (9, 9, 3)
    os.utime("in/c.png", (1, 1))
    assert states() == ["skipped"] * 3  # content decides, not times
    assert states("--bits", "16") == ["ok"] * 3
    assert read_photo(Path("out/a.png")).bits == 16
    with Path("out", MANIFEST).open("a") as manifest:
        manifest.write('{"output": "a.p')  # cut off
    assert states("--bits", "16") == ["skipped"] * 3


def test_resume_with_another_network_does_everything_again(derain, cli, photo_file, random_weights):
    photo_file("in/a.png", 8, 8)
    assert derain("in", "-o", "out").exit_code == 0
    first = Path("out/a.png").read_bytes()
    again = cli("derain", "in", "-o", "out", "--resume", "--weights", random_weights, "--json")
    assert again.lines[0]["status"] == "ok"
    assert Path("out/a.png").read_bytes() != first


def test_resume_never_replaces_what_is_not_ours(derain, photo_file):
    photo_file("in/a.png", 8, 8)
    assert derain("in", "-o", "out").exit_code == 0
    Path("out/a.png").write_bytes(b"somebody's own")
    outcome = derain("in", "-o", "out", "--resume")
    assert outcome.exit_code == OutputError.exit_code
    assert "would be overwritten" in outcome.stderr
    assert Path("out/a.png").read_bytes() == b"somebody's own"


def test_results_in_the_folder_of_the_inputs_are_no_inputs(derain, photo_file):
    photo_file("in/a.png", 8, 8)
    for _ in range(2):
        assert derain("in", "-o", "in", "--name", "{stem}_clean{suffix}", "--resume").exit_code == 0
    assert files_in("in") == ["a.png", "a_clean.png"]


def test_dry_run_lists_exactly_what_a_run_does(derain, photo_file, picture):
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        photo_file(name, 8, 8)
    assert derain("in", "-o", "out").exit_code == 0
    Path("out/a.png").unlink()
    Image.fromarray(picture(9, 9)).save("in/b.png")
    Path("in/d.png").write_text("no picture")
    options = ("in", "-o", "out", "--resume", "--json")
    planned = derain(*options, "--dry-run")
    assert planned.exit_code == 1
    assert [line["status"] for line in planned.lines] == [
        "planned", "replacing", "skipped", "failed",
    ]  # fmt: skip
    done = derain(*options)
    assert [row["status"] for row in done.lines[:-1]] == ["ok", "ok", "skipped", "failed"]


def test_in_place_replaces_after_verifying(derain, photo_file, monkeypatch):
    path = photo_file("in/a.png", 8, 8)
    path.chmod(0o640)
    before = path.read_bytes()
    monkeypatch.setattr("restorecli.runs.picture.encode_photo", lambda *a, **k: b"\x89PNG broken")
    refused = derain("in", "--in-place")
    assert refused.exit_code == OutputError.exit_code
    assert "was not replaced" in refused.stderr
    assert path.read_bytes() == before
    monkeypatch.undo()
    monkeypatch.chdir(path.parents[1])
    assert derain("in", "--in-place", "--bits", "16").exit_code == 0
    assert read_photo(path).bits == 16
    assert path.stat().st_mode & 0o777 == 0o640
    once = path.read_bytes()
    again = derain("in", "--in-place", "--bits", "16", "--resume", "--json")
    assert again.lines[0]["status"] == "skipped"
    other = derain("in", "--in-place", "--resume")
    assert "its original is gone" in other.stderr
    assert path.read_bytes() == once


def test_links_stay_links(derain, photo_file, tmp_path):
    photo_file("in/a.png", 8, 8)
    real = photo_file("elsewhere/real.png", 4, 4)
    Path("out").mkdir()
    Path("out/a.png").symlink_to(real)
    assert derain("in", "-o", "out").exit_code == OutputError.exit_code
    assert pixels_of(real).shape == (4, 4, 3)
    assert derain("in", "-o", "out", "--overwrite").exit_code == 0
    assert Path("out/a.png").is_symlink()
    assert pixels_of(real).shape == (8, 8, 3)


def test_folders_that_link_in_circles_end(derain, photo_file):
    photo_file("in/deep/a.png", 8, 8)
    Path("in/deep/up").symlink_to(Path("in").resolve())
    assert derain("in", "-r", "-o", "out").exit_code == 0
    assert files_in("out") == ["deep/a.png"]


def test_a_private_photo_stays_private(derain, photo_file):
    photo_file("in/a.png", 8, 8).chmod(0o600)
    assert derain("in", "-o", "out").exit_code == 0
    assert Path("out/a.png").stat().st_mode & 0o777 == 0o600


def test_too_many_pixels_are_refused_until_allowed(derain, photo_file):
    path = photo_file("a.png", 20, 20)
    refused = derain(path, "--max-pixels", "399")
    assert refused.exit_code == InputError.exit_code
    assert "--max-pixels" in refused.stderr
    assert derain(path, "--max-pixels", "400").exit_code == 0


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_metadata_safe_drops_place_and_serial_number(derain, photo_file, suffix):
    path = photo_file(f"a.{suffix}", 8, 8, exif=exif_of(6))
    for keep, tags in (("keep", 3), ("safe", 2), ("none", 0)):
        out = Path(f"{keep}.{suffix}")
        assert derain(path, "-o", out, "--metadata", keep).exit_code == 0
        with Image.open(out) as picture:
            exif = picture.getexif()
            assert (b"SERIAL-42" in out.read_bytes()) == (keep == "keep")
            assert bool(exif.get_ifd(0x8825)) == (keep == "keep")
            assert (exif.get(0x010F) == "Camera of ours") == (tags > 0)


def test_colour_under_full_transparency_does_not_leak(picture):
    clear = picture(12, 12)
    alpha = np.full((12, 12), 255, np.uint8)
    alpha[:, :6] = 0
    black = clear.copy()
    black[:, :6] = 0
    photo = Photo(pixels=black, alpha=alpha)
    filled = photo.filled()
    np.testing.assert_array_equal(filled[:, 6:], black[:, 6:])
    np.testing.assert_array_equal(filled[:, :6], np.repeat(black[:, 6:7], 6, axis=1))
    again = photo.with_pixels(filled)
    np.testing.assert_array_equal(again.pixels, black)  # what is hidden stays what it was
    assert FileOptions(bits="16").depth_of(photo) == np.uint16


def test_output_of_one_colour_fails_that_file(derain, photo_file, monkeypatch):
    precisions = []

    def black(network, read, size, *, dtype, **options):
        precisions.append(dtype)
        yield 0, torch.zeros_like(read(0, size[0]))

    monkeypatch.setattr(engines, "restored_rows", black)
    photo_file("a.png", 16, 16)
    outcome = derain("a.png", "--precision", "bf16")
    assert outcome.exit_code == 1
    assert "one constant colour" in outcome.stderr
    assert precisions == [torch.bfloat16, torch.float32]
    assert not Path("a.derain.png").exists()
    Image.new("RGB", (16, 16), "black").save("night.png")  # was constant before
    assert derain("night.png").exit_code == 0
