"""What the documentation says of networks and checkpoints is what they are.

``python -m tests.test_docs`` writes the table of docs/registry.md anew.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from restorecli.commands.restore import TASKS
from restorecli.networks import NETWORKS
from restorecli.weights.registry import _shipped
from training import gallery

DOCS = Path(__file__).parents[1] / "docs"
REGISTRY = DOCS / "registry.md"
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
    text = REGISTRY.read_text(encoding="utf-8")
    assert START in text
    assert text == rewritten(text), "run python -m tests.test_docs"


ROOT = DOCS.parent
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("*/README.md")])
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page):
    """The text of a page without what is typed or printed."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """What a link can point to: headings as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    for link in LINK.findall(re.sub(r"`[^`]*`", "", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_the_index_names_every_page_once():
    named = LINK.findall(prose(DOCS / "index.md"))
    assert len(named) == len(set(named))
    assert {path.name for path in DOCS.iterdir()} - {"index.md", "pictures"} <= set(named)
    assert {"photo.md", "many.md", "measuring.md", "training.md", "../CONTRIBUTING.md"} <= set(
        named
    )


def test_the_table_of_extras_is_that_of_the_project():
    text = prose(DOCS / "installing.md")
    table = text[text.index("## What is optional") : text.index("## A container")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    part = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert sorted(named) == sorted(re.findall(r"^(\w+) = \[", part, re.MULTILINE))


def test_the_pictures_of_the_readme_are_those_of_the_gallery_the_best_first():
    shown = re.findall(r"before-after-(\w+)\.jpg", prose(ROOT / "README.md"))
    assert shown == list(gallery.SHOWN)
    for task in shown:
        with Image.open(DOCS / "pictures" / f"before-after-{task}.jpg") as picture:
            assert picture.width == 2 * gallery.WIDTH_PX + 4
    assert set(gallery.SHOWN) <= set(TASKS)


def test_a_picture_of_the_gallery_has_a_label_over_each_half():
    left, right = (Image.new("RGB", (88, 58), colour) for colour in ("navy", "olive"))
    sheet = gallery.halves(left, right, ("as taken", "restore derain"))
    assert sheet.getpixel((10, sheet.height - 5)) == (0, 0, 128)
    assert sheet.getpixel((sheet.width - 5, sheet.height - 5)) == (128, 128, 0)
    for half in (0, gallery.WIDTH_PX + 4):
        label = sheet.crop((half, 0, half + 120, gallery.LABEL_PX))
        assert label.getextrema()[0][0] < 100, "no label"
    made = gallery.before(gallery.SHOWN["desnow"], Path())
    assert made.size == (gallery.WIDTH_PX, gallery.HEIGHT_PX)


def test_the_top_level_is_small():
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout
    if not listed:
        pytest.skip("no clone")
    assert len({name.split("/")[0] for name in listed.splitlines()}) <= 20


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
    REGISTRY.write_text(rewritten(REGISTRY.read_text(encoding="utf-8")), encoding="utf-8")
