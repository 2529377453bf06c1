"""The first ten minutes of somebody who has read README: each command, its exit code, its sentence.

One transcript, in one folder, with what earlier commands left there.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pytest
from PIL import Image

from tests.conftest import pixels_of


@dataclass(frozen=True)
class Step:
    typed: str  # after `restore`
    code: int
    said: tuple[str, ...]  # each stands in what is printed
    at: str = "."  # where it is typed


def step(typed, code, *said, at="."):
    return Step(typed, code, said, at)


TRANSCRIPT = [
    # What is this?
    step("", 2, "Usage: restore", "derain    Remove rain streaks.", "Exit codes:"),
    step("--version", 0, "restore "),
    step("photo.jpg", 2, "No task is named", "For example: restore derain photo.jpg"),
    step("help", 0, "Usage: restore", "restore help derain"),
    step("help derain", 0, "Remove rain streaks.", "What and where to:", "Examples:"),
    step("--help derain", 0, "Usage: restore [OPTIONS] COMMAND"),
    step("-r derain photo.jpg", 2, "Error: restore: no such option: -r.", "`restore help`"),
    # Names of commands
    step("deblurr photo.jpg", 2, "Did you mean `restore deblur`?"),
    step("unfog photo.jpg", 2, "Did you mean `restore dehaze`?"),
    step("frobnicate", 2, "There is no command 'frobnicate'.", "`restore --help` shows all."),
    step("help frobnicate", 2, "There is no command 'frobnicate'."),
    step("models lst", 2, "restore models: no such command 'lst'. Did you mean 'list'?"),
    # What to restore
    step("derain", 2, "missing argument 'INPUT...'", "For example: restore derain photo.jpg."),
    step("derain phto.jpg", 3, "phto.jpg: no such file. Did you mean photo.jpg?"),
    step("derain nowhere/photo.jpg", 3, "no such file. Check the name."),
    step("derain '*.jpeg'", 3, "no file matches this pattern"),
    step("derain notes.txt", 3, "notes.txt: not an image (starts with 'hello')"),
    step("derain saved.jpg", 3, "saved.jpg: it is a web page (HTML), not a picture"),
    step("derain empty", 3, "No pictures in empty."),
    step("derain deep", 3, "No pictures in deep.", "1 folder below: -r looks into them."),
    step("derain @list.txt", 3, "Cannot read the list list.txt"),
    # Options
    step("derain photo.jpg --quality 90", 2, "neither fast nor best", "--jpeg-quality"),
    step("derain photo.jpg --outptu x.jpg", 2, "no such option: --outptu", "--output"),
    step("derain photo.jpg -o", 2, "option '-o' requires an argument."),
    step("derain photo.jpg --format jpg", 2, "'jpg' is not one of 'source', 'png', 'jpeg'"),
    step("derain photo.jpg --threads 0", 2, "invalid value for '--threads'", "`restore help"),
    step("derain photo.jpg --tile 500", 2, "must be a multiple of 8, got 500.", "496 or 504"),
    step("derain photo.jpg --model hint-derain-pack", 4, "Did you mean 'hint-derain-packed'?"),
    step("derain photo.jpg --model hint-dehaze-packed", 4, "is for dehaze, not for derain."),
    step("derain photo.jpg --device cuda:7", 5, "There is no CUDA device 7 here", "restore doctor"),
    step("derain photo.jpg -o x.gif", 2, "results cannot be written as GIF"),
    step("derain photo.jpg holiday -o x.jpg", 2, "names one file, but there may be several"),
    # It works; and again
    step("derain photo.jpg -n", 0, "would write photo.derain.jpg from photo.jpg"),
    step("derain photo.jpg", 0, "photo.jpg → photo.derain.jpg", "1 restored in"),
    step("derain photo.jpg", 2, "photo.derain.jpg would be overwritten.", "--resume"),
    step("derain photo.jpg --resume", 2, "no earlier run says that it is finished."),
    step("derain photo.jpg --overwrite", 0, "1 restored in"),
    step("derain photo.jpg -o results/x.jpg", 0, "photo.jpg → results/x.jpg"),
    # Folders, and their results
    step("derain holiday", 0, "holiday/a.jpg → holiday.derain/a.jpg", "2 restored in"),
    step("derain holiday", 2, "holiday.derain/a.jpg and 1 more would be overwritten.", "--resume"),
    step("derain holiday --resume", 0, "0 restored, 2 skipped"),
    step("derain .", 2, "../holiday.derain/a.jpg and 1 more would be overwritten.", at="holiday"),
    step("derain . -o ../here", 0, "a.jpg → ../here/a.jpg", "2 restored in", at="holiday"),
    step("derain ./ -o ../here --skip-existing", 0, "0 restored, 2 skipped", at="holiday"),
    step("derain .. -o ../all", 1, "../saved.jpg: it is a web page",
         "../photo.jpg → ../all/photo.jpg", "1 result(s) of an earlier derain left out",
         at="holiday"),
    step("derain deep -r", 0, "deep/a/c.png → deep.derain/a/c.png"),
    step("derain holiday.derain", 0, "holiday.derain/a.jpg → holiday.derain.derain/a.jpg"),
    step("denoise holiday.derain -o both", 0, "holiday.derain/b.png → both/b.png", "2 restored in"),
    # Looking at it
    step("compare photo.jpg", 2, "needs at least two pictures or two folders."),
    step("compare photo.jpg photo.derain.jpg -o page.html", 0, "Wrote page.html, "),
    step("compare photo.jpg photo.derain.jpg -o page.html", 2, "page.html exists already.",
         "--overwrite"),
    step("metrics holiday.derain", 2, "needs restored pictures and --ref DIR."),
    step("metrics holiday.derain --ref holiday", 0, "PSNR-RGB, dB", "Worst by"),
    step("models list --task rain", 2, "Did you mean derain?"),
    step("models list --task derain --installed", 0, "hint-derain-packed"),
    step("models show qqqqqqqq", 4, "There is no model 'qqqqqqqq'.\n  `restore"),
    step("config show derain", 0, "--device", "built in"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch, picture):
    """Photographs as somebody has them, and what lies among them."""
    for name in ("photo.jpg", "holiday/a.jpg", "holiday/b.png", "deep/a/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(24, 32)).save(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "saved.jpg").write_text("<html>404")
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_the_first_ten_minutes(cli, folder, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wrong = []
    for one in TRANSCRIPT:
        monkeypatch.chdir(folder / one.at)
        outcome = cli(*shlex.split(one.typed))
        printed = outcome.stdout + outcome.stderr
        missing = [sentence for sentence in one.said if sentence not in printed]
        if outcome.exit_code != one.code or missing or "Traceback" in printed:
            wrong.append(f"$ restore {one.typed}\n-> {outcome.exit_code}, {missing}\n{printed}")
    assert not wrong, "\n".join(wrong)
    assert {path: path.read_bytes() for path in before} == before
    assert pixels_of(folder / "photo.derain.jpg").shape == (24, 32, 3)
