"""The record of what half precision changes."""

from __future__ import annotations

import numpy as np
import pytest

from restorecli.weights.registry import read_registry
from training import precision
from training.testsets import SETS, Pair

ENTRY = """
# kept
[net]
network = "restormer"
tasks = ["derain"]
source = "import:net.pth"
licence = "MIT"
citation = "none"
protocol = "whole image"
sha256 = "SHA256"
""".replace("SHA256", "0" * 64)


def test_the_worst_set_is_what_is_recorded(monkeypatch, tmp_path):
    file = tmp_path / "weights.toml"
    file.write_text(ENTRY, encoding="utf-8")
    monkeypatch.setattr(precision, "REGISTRY", file)
    entry = read_registry(ENTRY)["net"]
    precision.record(entry, [(0.01234, 1, 12), (-0.5, 3, 5)], "the command")
    text = file.read_text(encoding="utf-8")
    found = read_registry(text)["net"].bfloat16
    assert (found.loss_db, found.largest_difference, found.pictures) == (0.0123, 3, 17)
    assert not found.is_close
    assert "# kept" in text


def test_a_record_holds_for_the_file_that_was_measured(monkeypatch, tmp_path):
    file = tmp_path / "weights.toml"
    file.write_text(ENTRY, encoding="utf-8")
    monkeypatch.setattr(precision, "REGISTRY", file)
    precision.record(read_registry(ENTRY)["net"], [(0.0, 1, 12)], "the command")
    entry = read_registry(file.read_text(encoding="utf-8"))["net"]
    assert entry.is_close_in_bfloat16
    assert not entry.model_copy(update={"sha256": "1" * 64}).is_close_in_bfloat16
    assert not entry.model_copy(update={"bfloat16": None}).is_close_in_bfloat16


def test_results_in_both_precisions_are_compared(monkeypatch, tmp_path):
    clean = np.full((16, 16, 3), 100, np.uint8)
    exact, rough = clean.copy(), clean.copy()
    exact[0, 0], rough[0, 0] = 110, 113
    monkeypatch.setattr(precision, "pairs_of", lambda *_: [Pair(degraded=clean, clean=clean)])
    results = {"fp32": [exact], "bf16": [rough]}
    monkeypatch.setattr(precision, "restored", lambda task, inputs, net, name: results[name])
    chosen = next(s for s in SETS if s.protocol == "denoise")
    entry = read_registry(ENTRY)["net"]
    loss_db, largest, pictures, _ = precision.compared(entry, chosen, tmp_path, None)
    assert (largest, pictures) == (3, 1)
    assert loss_db == pytest.approx(20 * np.log10(13 / 10))
