"""What the documentation says of networks and checkpoints is what they are.

``python -m tests.test_docs`` writes the table of docs/weights.md anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from restorecli.networks import NETWORKS
from restorecli.weights.registry import _shipped

DOCS = Path(__file__).parents[1] / "docs"
WEIGHTS = DOCS / "weights.md"
START, END = "<!-- models: python -m tests.test_docs -->\n", "<!-- end of models -->\n"


def how(entry):
    if entry.is_bundled:
        return "in the package"
    if entry.url:
        return f"`restore models download {entry.id}`"
    return f"`restore models import {entry.file_name} --task {entry.tasks[0]}`"


def score(entry):
    found = [
        *(f"{s.dataset} {s.psnr_db:.2f} dB (measured, {s.protocol})" for s in entry.measured),
        *(f"{s.dataset} {s.psnr_db:.2f} dB (published, {s.protocol})" for s in entry.published),
        *(
            f"{s.dataset} {s.psnr_db:.2f} dB ({'measured' if s.command else 'published'}, "
            f"{s.protocol})"
            for s in entry.spectra
        ),
    ]
    return "<br>".join(found) or "none recorded"


def table():
    rows = ["| id | task | how to get it | bytes | sha256 | licence | score |", "|" + "---|" * 7]
    for entry in _shipped().values():
        size = f"{entry.size_bytes:,}" if entry.size_bytes else "unknown"
        digest = f"`{entry.sha256}`" if entry.sha256 else "unknown"
        tasks = ", ".join(entry.tasks)
        cells = (f"`{entry.id}`", tasks, how(entry), size, digest, entry.licence, score(entry))
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def rewritten(text):
    before, _, rest = text.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


def test_the_table_of_checkpoints_is_that_of_the_registry():
    text = WEIGHTS.read_text(encoding="utf-8")
    assert START in text
    assert text == rewritten(text), "run python -m tests.test_docs"


ROW = re.compile(r"^\| (Restormer|`text`|`table`) \|.*\| (–|[\d.]+) \| ([\d,]+) \|", re.MULTILINE)


@pytest.mark.parametrize("row", ROW.findall((DOCS / "glmha.md").read_text(encoding="utf-8")))
def test_the_counts_of_the_glmha_page_are_exact(row):
    name, ratio, count = row
    with torch.device("meta"):
        if name == "Restormer":
            network = NETWORKS["restormer"]()
        else:
            network = NETWORKS["glmha_restormer"](preset=name.strip("`"), ratio=float(ratio))
    assert sum(p.numel() for p in network.parameters()) == int(count.replace(",", ""))


def test_the_glmha_page_has_all_its_rows():
    assert len(ROW.findall((DOCS / "glmha.md").read_text(encoding="utf-8"))) == 7


if __name__ == "__main__":
    WEIGHTS.write_text(rewritten(WEIGHTS.read_text(encoding="utf-8")), encoding="utf-8")
