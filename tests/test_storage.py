"""Addresses used as paths, on fsspec's file system in memory. Real servers: test_remote.py."""

from __future__ import annotations

import sys

import fsspec
import numpy as np
import pytest
from PIL import Image

from restorecli.errors import InputError, OutputError, UsageError
from restorecli.files import addresses as storage
from restorecli.files.addresses import Existing, files, is_remote, path_of


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def bucket(memory, photo_file):
    """``memory://in`` with three pictures, one of them in a folder, and what is none."""
    for name in ("b.png", "a.jpg", "deep/c.png"):
        memory.pipe_file(f"/in/{name}", photo_file(name, 24, 16).read_bytes())
    memory.pipe_file("/in/words.txt", b"no picture")
    return memory


@pytest.fixture
def derain(cli, random_weights):
    return lambda *arguments: cli("derain", *arguments, "--weights", random_weights)


def test_an_address_that_cannot_be_looked_at_is_one_sentence(derain, bucket, monkeypatch):
    def refuses(*arguments, **options):
        raise ValueError("Invalid bucket name\nand a long rule")

    monkeypatch.setattr(type(bucket), "ls", refuses)
    monkeypatch.setattr(type(bucket), "find", refuses)
    outcome = derain("memory://in/a.jpg")
    assert outcome.exit_code == OutputError.exit_code
    assert "memory://in/a.derain.jpg exists: ValueError: Invalid bucket name." in outcome.stderr


def test_addresses_are_taken_apart_and_put_together_as_paths_are():
    path = path_of("memory://bucket/folder/photo.png")
    assert is_remote(path)
    assert not is_remote(path_of("folder/photo.png"))
    assert str(path) == "memory://bucket/folder/photo.png"
    assert (path.name, path.stem, path.suffix) == ("photo.png", "photo", ".png")
    assert str(path.with_name("x.png")) == "memory://bucket/folder/x.png"
    assert str(path.parent / "y") == "memory://bucket/folder/y"
    assert path.key == "bucket/folder/photo.png"
    assert path.relative_to(path.parent.parent).as_posix() == "folder/photo.png"
    assert str(path_of("file:///tmp/a.png")) == "/tmp/a.png"


@pytest.mark.parametrize("name", ["memory://b//a.png", "memory://b/./a.png", "memory://b/../a.png"])
def test_names_that_would_become_others_are_refused(name):
    with pytest.raises(InputError, match="between slashes"):
        path_of(name)


def test_unknown_schemes_and_missing_packages_are_told(monkeypatch):
    with pytest.raises(UsageError, match="nonsense://"):
        path_of("nonsense://a/b")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    storage._system.cache_clear()
    with pytest.raises(UsageError, match=r"needs a further package. Install it: "):
        path_of("memory://a/b")


def test_a_folder_is_listed_once_for_all_its_names(bucket):
    existing = Existing()
    assert existing(path_of("memory://in/a.jpg"))
    bucket.rm("/in/b.png")
    assert existing(path_of("memory://in/a.jpg"))
    assert not existing(path_of("memory://in/no.jpg"))
    assert sorted(str(path) for path, _ in files(path_of("memory://in"), recursive=True)) == [
        "memory://in/a.jpg",
        "memory://in/deep/c.png",
        "memory://in/words.txt",
    ]


def test_a_remote_folder_gives_what_a_local_one_gives(derain, bucket, tmp_path):
    local = derain(tmp_path, "-r", "-o", tmp_path / "out", "--json")
    remote = derain("memory://in", "-r", "-o", "memory://out/x", "--json")
    assert local.exit_code == remote.exit_code == 0
    assert [row["name"] for row in remote.lines[:-1]] == [
        "memory://in/a.jpg",
        "memory://in/b.png",
        "memory://in/deep/c.png",
    ]
    for name in ("a.jpg", "b.png", "deep/c.png"):
        assert bucket.cat_file(f"/out/x/{name}") == (tmp_path / "out" / name).read_bytes()
    assert remote.lines[-1]["notes"] == ["1 other file(s) ignored"]


def test_resuming_at_an_address(derain, bucket, photo_file):
    command = ("memory://in", "-o", "memory://out", "--resume", "--json")
    assert derain(*command).lines[-1]["counts"] == {"ok": 2, "failed": 0, "skipped": 0}
    assert derain(*command).lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 2}
    bucket.rm_file("/out/a.jpg")
    bucket.pipe_file("/in/b.png", photo_file("other.png", 32, 32).read_bytes())
    assert derain(*command).lines[-1]["counts"] == {"ok": 2, "failed": 0, "skipped": 0}
    bucket.pipe_file("/out/a.jpg", b"not ours")
    refused = derain(*command)
    assert refused.exit_code == OutputError.exit_code
    assert "memory://out/a.jpg would be overwritten" in refused.stderr


def test_nothing_at_an_address_is_replaced_unasked(derain, bucket):
    assert derain("memory://in", "-o", "memory://out").exit_code == 0
    before = dict(bucket.store)
    refused = derain("memory://in", "-o", "memory://out")
    assert refused.exit_code == OutputError.exit_code
    assert bucket.store.keys() == before.keys()
    kept = derain("memory://in", "-o", "memory://out", "--skip-existing", "--json")
    assert kept.lines[-1]["counts"]["skipped"] == 2
    assert derain("memory://in", "-o", "memory://out", "--overwrite").exit_code == 0
    assert derain("memory://in", "-o", "memory://in").exit_code == OutputError.exit_code


def test_something_that_appears_meanwhile_is_not_replaced(bucket):
    with pytest.raises(FileExistsError):
        storage.upload(path_of("memory://in/a.jpg"), b"x", overwrite=False)
    assert bucket.cat_file("/in/a.jpg") != b"x"


def test_patterns_lists_and_reports_at_addresses(derain, bucket, tmp_path):
    bucket.pipe_file("/in/list.txt", b"memory://in/deep/c.png\n")
    out = tmp_path / "out"
    report = ("--report", "memory://reports/r.csv")
    assert derain("memory://in/*.png", "@memory://in/list.txt", "-o", out, *report).exit_code == 0
    assert sorted(p.name for p in out.iterdir() if p.suffix == ".png") == ["b.png", "c.png"]
    assert bucket.cat_file("/reports/r.csv").count(b"\n") == 3
    again = derain("memory://in/a.jpg", "-o", out, *report)
    assert again.exit_code == OutputError.exit_code
    assert "memory://reports/r.csv exists already" in again.stderr


def test_a_remote_picture_that_is_none_fails_alone(derain, bucket):
    bucket.pipe_file("/in/d.png", b"no picture at all")
    outcome = derain("memory://in", "-o", "memory://out", "--json")
    assert outcome.exit_code == 1
    errors = [row["error"] for row in outcome.lines[:-1] if row["error"]]
    assert len(errors) == 1
    assert "memory://in/d.png: not an image" in errors[0]
    missing = derain("memory://in/nowhere.png", "-o", "memory://out2")
    assert missing.exit_code == InputError.exit_code
    assert "no such file" in missing.stderr


def test_a_picture_replaced_in_place_at_an_address(derain, bucket):
    before = bucket.cat_file("/in/b.png")
    assert derain("memory://in/b.png", "--in-place").exit_code == 0
    after = bucket.cat_file("/in/b.png")
    assert after != before
    with Image.open(bucket.open("/in/b.png")) as picture:
        assert np.asarray(picture).shape == (24, 16, 3)
    again = derain("memory://in/b.png", "--in-place", "--resume", "--json")
    assert again.lines[-1]["counts"]["skipped"] == 1


def test_a_bucket_itself_needs_a_place_for_its_results(derain, bucket):
    outcome = derain("memory://in")
    assert outcome.exit_code == UsageError.exit_code
    assert "Give -o" in outcome.stderr
