"""Paths as people give them: the folder they are in, lists from everywhere, pipes, closed doors."""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from restorecli.report.write import FORMATS
from restorecli.runs.manifest import MANIFEST
from tests.conftest import pixels_of
from tests.forks import become_a_stranger, forked
from tests.test_places import loaded, shared  # noqa: F401 (fixtures)

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="names and rights of POSIX")


@pytest.fixture
def derain(cli, random_weights):
    return lambda *arguments: cli("derain", *arguments, "--weights", random_weights)


@pytest.fixture
def photos(photo_file, tmp_path, monkeypatch):
    """We are in a folder with two pictures, one of them further down."""
    photo_file("photos/a.png", 16, 16)
    photo_file("photos/deep/b.png", 16, 16)
    monkeypatch.chdir(tmp_path / "photos")
    return tmp_path / "photos"


# Where we are


@pytest.mark.parametrize("name", [".", "./", "../photos", "../photos/", "deep/..", "deep/../."])
def test_the_folder_we_are_in_by_any_name(derain, photos, name):
    outcome = derain(name)
    assert outcome.exit_code == 0, outcome.stderr
    made = {p.relative_to(photos.parent).as_posix() for p in photos.parent.rglob("*.png")}
    assert made == {"photos/a.png", "photos/deep/b.png", "photos.derain/a.png"}


@pytest.mark.parametrize(
    ("options", "made"),
    [
        (("-o", "out"), {"out/a.png"}),
        (("-r", "-o", "out"), {"out/a.png", "out/deep/b.png"}),
        (("-r",), {"../photos.derain/a.png", "../photos.derain/deep/b.png"}),
        (("--in-place",), set()),
        (("-n",), set()),
    ],
)
def test_the_folder_we_are_in_with_other_options(derain, photos, options, made):
    before = (photos / "a.png").read_bytes()
    outcome = derain(".", *options)
    assert outcome.exit_code == 0, outcome.stderr
    there = {os.path.relpath(p) for p in photos.parent.rglob("*.png")}
    assert there == made | {"a.png", "deep/b.png"}
    assert ((photos / "a.png").read_bytes() == before) == ("--in-place" not in options)


def test_the_folder_above_gets_its_results_beside_itself(derain, photos, monkeypatch):
    monkeypatch.chdir(photos / "deep")
    assert derain("..").exit_code == 0
    assert (photos.parent / "photos.derain" / "a.png").exists()


def test_the_root_of_all_has_nothing_beside_it(derain):
    outcome = derain("/", "-n")
    assert outcome.exit_code == 2
    assert "Give -o" in outcome.stderr


def test_a_tilde_that_the_shell_left_is_the_home(derain, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    Path("list.txt").write_text("~/a.png\n")
    for name in ("~/a.png", "@list.txt"):
        outcome = derain(name, "-n")
        assert outcome.exit_code == 0, outcome.stderr
        assert str(photos / "a.png") in outcome.stderr


def test_a_folder_without_pictures_says_what_is_there(derain, photos):
    for name in ("one", "two", "three"):
        (photos / "empty" / name).mkdir(parents=True)
    outcome = derain("empty")
    assert outcome.exit_code == 3
    assert "No pictures in empty." in outcome.stderr
    assert "3 folders below: -r" in outcome.stderr
    (photos / "empty" / "words.txt").write_text("words")
    assert "1 file is no picture" in derain("empty", "-r").stderr


# Results of earlier runs


def test_results_can_be_restored_again_by_the_same_and_other_tasks(
    cli, derain, photos, random_weights
):
    assert derain(".", "-o", "../out").exit_code == 0
    for task in ("derain", "denoise"):
        again = cli(task, "../out", "--weights", random_weights, "--json")
        assert again.exit_code == 0, again.stderr
        assert again.lines[-1]["counts"]["ok"] == 1


def test_own_results_beside_their_pictures_are_left_out_and_it_is_said(
    cli, derain, photos, random_weights
):
    shutil.copy("a.png", "c.png")
    assert derain("a.png", "c.png", "--name", "{stem}-x.png").exit_code == 0
    again = derain(".", "-o", "../out", "--json")
    assert again.lines[-1]["counts"]["ok"] == 2
    assert "2 result(s) of an earlier derain left out" in again.lines[-1]["notes"]
    other = cli("denoise", ".", "-o", "../out2", "--weights", random_weights, "--json")
    assert other.lines[-1]["counts"]["ok"] == 4


def test_a_manifest_hides_no_picture_whose_hash_it_does_not_know(derain, photos):
    record = {"output": "a.png", "input_sha256": "0" * 64, "output_sha256": "0" * 64}
    record |= {"model_sha256": "0" * 64, "options": {"task": "derain"}}
    Path(MANIFEST).write_text(json.dumps(record) + "\n")
    assert derain(".", "--json").lines[-1]["counts"]["ok"] == 1


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 50_000,
        b'{"a":' * 9_000,
        b"x" * 5_000_000,
        b'{"output": 1}',
        b"\xff\xfe",
        b"9" * 9_000,
    ],
)
def test_a_manifest_of_anybody_does_no_harm(derain, photos, line):
    Path("out").mkdir()
    Path("out", MANIFEST).write_bytes(line + b"\n" + line)
    for _ in range(2):
        assert derain(".", "-o", "out", "--resume").exit_code == 0
    assert derain("out", "-n").exit_code == 0


@POSIX
def test_a_manifest_that_is_no_file_is_not_waited_for(derain, photos):
    os.mkfifo(MANIFEST)
    assert derain(".", "-o", "../out").exit_code == 0
    Path("other").mkdir()
    Path("victim").write_text("mine")
    Path("other", MANIFEST).symlink_to(photos / "victim")
    outcome = derain("a.png", "-o", "other")
    assert outcome.exit_code == 2
    assert Path("victim").read_text() == "mine"


# Folders that may not be read or written


@POSIX
@pytest.mark.usefixtures("loaded")
def test_an_unreadable_folder_is_a_failure_of_its_own(shared, picture):  # noqa: F811
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    (shared / "in" / "sub").mkdir(parents=True)
    (shared / "in" / "names-only").mkdir()
    for name in ("in/a.png", "in/sub/b.png", "in/names-only/c.png"):
        Image.fromarray(picture(16, 16)).save(shared / name)
    (shared / "in" / "sub").chmod(0)
    (shared / "in" / "names-only").chmod(0o444)
    network = ("--weights", "w.safetensors", "--json")
    for options in (("-r", "-o", "out"), ("-r", "-o", "out2", "--resume")):
        ended = forked(shared, "derain", "in", *network, *options, before=become_a_stranger)
        assert ended.code == 1, ended.err
        *rows, last = [json.loads(line) for line in ended.out.splitlines()]
        assert last["counts"] == {"ok": 1, "failed": 2, "skipped": 0}
        assert {row["input"] for row in rows} == {"in/a.png", "in/sub", "in/names-only/c.png"}
    whole = forked(shared, "derain", "in/sub", *network, "-o", "x", before=become_a_stranger)
    assert whole.code == 3, whole.err
    assert "Cannot look into in/sub: Permission denied" in whole.err
    for report in FORMATS:
        ended = forked(
            shared, "derain", "in", "-r", "-o", "out", "--overwrite", *network,
            "--report", f"r{report}", before=become_a_stranger,
        )  # fmt: skip
        assert ended.code == 1, ended.err
        assert "in/sub" in (shared / f"r{report}").read_text()


@POSIX
@pytest.mark.usefixtures("loaded")
def test_what_cannot_be_written_is_found_before_anything_is_computed(shared, picture):  # noqa: F811
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for name in ("locked", "open"):
        (shared / name).mkdir()
        Image.fromarray(picture(16, 16)).save(shared / name / "a.png")
        (shared / name / "a.png").chmod(0o666)
    (shared / "open").chmod(0o777)
    (shared / "locked").chmod(0o555)
    (shared / "file").write_text("no folder")
    command = partial(forked, shared, "derain", before=become_a_stranger)
    network = ("--weights", "w.safetensors", "--json")
    for arguments in (
        ("p.png", "-o", "locked"),
        ("p.png", "-o", "locked/new/deep"),
        ("locked/a.png", "--in-place"),
        ("locked", "--in-place"),
        ("p.png", "-o", "file/x.png"),
    ):
        ended = command(*arguments, *network)
        assert ended.code == 2, ended.err
        row = json.loads(ended.out.splitlines()[0])
        assert row["elapsed_s"] == 0, "nothing was computed"
        assert "Cannot write into" in row["error"]
    ended = command("locked", "open", "--in-place", *network)
    assert ended.code == 1, ended.err
    ended = command("p.png", "-o", "x.png", *network, "--report", "locked/r.json")
    assert ended.code == 2
    assert not (shared / "x.png").exists()


# Lists


@pytest.mark.parametrize(
    "encode",
    [
        lambda names: b"\xef\xbb\xbf" + "\r\n".join(names).encode(),
        lambda names: "\r\n".join(names).encode("utf-16"),
        lambda names: b"\xfe\xff" + "\n".join(names).encode("utf-16-be"),
        lambda names: "\n".join(names).encode("cp1252"),
        lambda names: "\0".join(names).encode(),
    ],
)
def test_lists_come_in_any_encoding(derain, photos, photo_file, encode):
    photo_file("photos/Jürgen.png", 16, 16)
    Path("list.txt").write_bytes(encode(["Jürgen.png", "a.png"]))
    outcome = derain("@list.txt", "-o", "out", "--json")
    assert outcome.exit_code == 0, outcome.stdout
    assert sorted(p.name for p in Path("out").glob("*.png")) == ["Jürgen.png", "a.png"]


def test_an_empty_list_is_told(derain, photos):
    Path("list.txt").write_text("\n\n")
    outcome = derain("@list.txt")
    assert outcome.exit_code == 3
    assert "names no picture" in outcome.stderr


# Names of results


@pytest.mark.parametrize("name", ["result.gif", "result.heic", "result.psd", "result.GIF"])
def test_a_picture_ending_that_cannot_be_written_is_no_folder(derain, photos, name):
    outcome = derain("a.png", "-o", name)
    assert outcome.exit_code == 2
    assert "results cannot be written as" in outcome.stderr
    assert not Path(name).exists()


def test_a_slash_at_the_end_means_a_folder(derain, photos):
    assert derain("a.png", "-o", "out.png/").exit_code == 0
    assert Path("out.png/a.png").exists()


def test_only_what_can_be_restored_collides(derain, photos):
    Image.new("RGB", (8, 8)).save("logo.bmp")
    Image.new("RGB", (8, 8), "red").save("logo.png")
    Path("a.heic").write_bytes(b"no picture")  # would become a.png
    outcome = derain(".", "-o", "out", "--json")
    assert outcome.exit_code == 1, outcome.stderr
    assert outcome.lines[-1]["counts"] == {"ok": 3, "failed": 1, "skipped": 0}


@POSIX
def test_a_name_with_a_backslash_or_of_no_encoding_harms_no_other(derain, photos):
    odd = [b"b\\c.png", b"\xff\xfe.png"]
    for name in odd:
        shutil.copy("a.png", name)
    outcome = derain(".", "-o", "out", "--json", *(f"--report=r{ending}" for ending in FORMATS))
    assert outcome.exit_code == 1, outcome.stderr
    rows = {row["input"]: row["status"] for row in outcome.lines[:-1]}
    assert rows["a.png"] == "ok"
    assert rows["b\\c.png"] == "failed"
    assert set(rows) == {"a.png", "b\\c.png", "\\xff\\xfe.png"}
    for ending in FORMATS:
        text = Path(f"r{ending}").read_text()
        assert "xff" in text
        assert "b" in text
    alone = derain("b\\c.png", "-o", "x.png")
    assert alone.exit_code == 0, alone.stderr


# Pipes and devices


@POSIX
def test_pipes_are_one_true_sentence(cli, photos, identity_weights, monkeypatch):
    reader, writer = os.pipe()  # what process substitution gives
    os.write(writer, Path("a.png").read_bytes())
    outcome = cli("derain", f"/dev/fd/{reader}", "-o", "x.png")
    assert outcome.exit_code == 3
    assert "it is a pipe, not a file" in outcome.stderr
    assert "Standard input takes one" in outcome.stderr
    os.close(reader)
    os.close(writer)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(Path("a.png").read_bytes())))
    outcome = cli("derain", "/dev/stdin", "-o", "y.png", "--weights", identity_weights)
    assert outcome.exit_code == 0, outcome.stderr
    assert np.array_equal(pixels_of("y.png"), pixels_of("a.png"))
    twice = cli("derain", "-", "/dev/stdin")
    assert twice.exit_code == 2
    assert "once only" in twice.stderr


@POSIX
def test_pipes_and_devices_are_refused_wherever_a_file_is_read(cli, derain, photos):
    os.mkfifo("pipe.png")
    for arguments, code in (
        (("derain", "pipe.png"), 3),
        (("derain", "/dev/zero"), 3),
        (("derain", "@pipe.png"), 3),
        (("metrics", "pipe.png", "--ref", "a.png"), 3),
        (("metrics", "a.png", "--ref", "pipe.png"), 3),
        (("compare", "pipe.png", "a.png", "-o", "c.png"), 3),
    ):
        outcome = cli(*arguments)
        assert outcome.exit_code in {1, code}, (arguments, outcome.stderr)
        assert "not a file" in outcome.stderr, arguments
    whole = derain(".", "-o", "out", "--json")
    assert whole.lines[-1]["counts"]["ok"] == 1


def test_a_picture_that_hardly_changes_is_told(cli, photos, identity_weights):
    outcome = cli("derain", "a.png", "--weights", identity_weights, "--json")
    assert outcome.lines[0]["notes"] == ["hardly changed: by 0.00 of 255 on average"]
    assert "hardly changed" in outcome.stderr


def test_an_experimental_network_says_so(cli, photos, monkeypatch):
    from restorecli.weights import registry

    entry = registry().default("derain").model_copy(update={"experimental": "a first try"})
    module = sys.modules[type(entry).__module__]
    monkeypatch.setattr(module, "_shipped", lambda: module.Registry({entry.id: entry}))
    outcome = cli("derain", "a.png", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    assert any(f"{entry.id} is experimental" in note for note in outcome.lines[-1]["notes"])
