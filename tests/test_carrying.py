"""No kind of metadata is lost silently: the table of docs/files.md, measured by exiftool."""

from __future__ import annotations

import shutil

import pytest

from tests import carrying


@pytest.mark.parametrize("way", ["library", pytest.param("command", marks=pytest.mark.long)])
def test_the_table_of_what_is_carried_is_measured_and_nothing_is_lost_silently(tmp_path, way):
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    pytest.importorskip("pylibjxl")  # without it a JPEG XL gets sRGB instead of a profile
    carrying.write_sources(tmp_path)
    notes = {"library": carrying.by_library, "command": carrying.by_command}[way](tmp_path)
    measured = carrying.table(tmp_path, notes)
    assert "SILENTLY" not in measured
    assert "AS IT WAS" not in measured
    text = carrying.PAGE.read_text(encoding="utf-8")
    assert text == carrying.rewritten(text, measured), "run python -m tests.carrying"
