"""Write docs/quality.md: ``python -m training.quality FIGURES.json … --real DIR``.

``FIGURES.json`` is what ``python -m training.evaluate --json`` wrote, in one run or in several.
``DIR`` holds photographs that really are hazy, dark or seen through rain, and ``manifest.csv`` with
the licence of each: every one is restored by the ``restore`` command and shown beside the classic
method for its task.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.classic import methods_for
from training.data import load_photographs
from training.runner import Network, defaults, restored
from training.testsets import SETS, Levels, Pair

CELL_PX = 480  # width of one picture of a row
SHEETS = ("derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus")
TASK_OF_NOTE = {  # what the manifest's note says → the task that is for it
    "haze": "dehaze",
    "fog": "dehaze",
    "dark": "lowlight",
    "dusk": "lowlight",
    "rain": "derain",
}
Rows = Sequence[Mapping[str, Any]]

HEAD = """\
# Quality

What the bundled networks do, in figures and in pictures, beside classic methods on the same
pictures. All of it was printed and drawn by

```
python -m training.evaluate --data EVAL --free PHOTOGRAPHS --names training/held_out.txt \
    --real REAL --json figures.json
python -m training.quality figures.json --real REAL
```

which run `restore` itself on whole pictures saved as PNG; none of them was used in training. PSNR
and SSIM are those of the set's protocol (rain: MATLAB's Y, all others: RGB), ΔE00 is the mean
CIEDE2000 colour difference, *chroma* the mean CIELAB chroma of the results over that of the
targets: below 1 colour was lost, above 1 it was exaggerated. Classic methods are told what no
network is: the noise's σ, the blur's kernel (which, where a part of the picture is in better
focus, is not true there). What they are: [training/classic.py](../training/classic.py). CBM3D is
the package `bm3d` of its authors, free for non-commercial use only; this project does not depend
on it. Sets called synthetic were made of clean pictures with this project's own generator.
"""


def scored(rows: Rows) -> Iterator[str]:
    """A table for each task: one line for each method on each set."""
    kept = [row for row in rows if "psnr_db" in row and not is_harm(row)]
    for task, of_task in grouped(kept, "task"):
        yield f"\n### {task}\n"
        yield "| set | method | PSNR (dB) | gain | SSIM | ΔE00 | chroma |"
        yield "|---|---|---|---|---|---|---|"
        for (name, _), of_set in grouped(of_task, "set", "pictures"):
            yield from lines_of(name, of_set)


def grouped(rows: Rows, *keys: str) -> Iterator[tuple[Any, Rows]]:
    """Rows that agree in ``keys``, in the order in which their first ones come."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        values = tuple(row.get(key) for key in keys)
        groups.setdefault(values[0] if len(keys) == 1 else values, []).append(row)
    yield from groups.items()


def lines_of(name: str, rows: Rows) -> Iterator[str]:
    """The methods on one set, the best PSNR in bold."""
    best = max(row["psnr_db"] for row in rows)
    for row in rows:
        first = f"{name} ({row['pictures']} pictures)" if row["kind"] == "input" else ""
        psnr = f"{row['psnr_db']:.2f}"
        psnr = f"**{psnr}**" if row["psnr_db"] == best else psnr
        gain = f"{row['gain_db']:+.2f}" if "gain_db" in row else ""
        share = row.get("share_of_upright_gain")
        gain += f" ({share:.0%} of the gain upright)" if share is not None else ""
        yield (
            f"| {first} | {called(row)} | {psnr} | {gain} | {row['ssim']:.4f} | "
            f"{row['delta_e']:.2f} | {row['chroma_ratio']:.2f} |"
        )


def called(row: Mapping[str, Any]) -> str:
    """The method's name; ids are code."""
    return f"`{row['method']}`" if row["kind"] == "network" else str(row["method"])


def is_harm(row: Mapping[str, Any]) -> bool:
    """Whether a row tells how good photographs came back."""
    return "not degraded" in row["set"]


def harm(rows: Rows) -> Iterator[str]:
    """How photographs come back that nothing was wrong with."""
    yield "\n## Good photographs\n"
    yield "PSNR of the result against the photograph itself, which nothing was done to.\n"
    yield "| task | network | set | mean (dB) | lowest | below 38 | below 32 |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        if is_harm(row) and row["kind"] == "network":
            yield (
                f"| {row['task']} | {called(row)} | {row['set']} | {row['psnr_db']:.2f} | "
                f"{row['lowest_db']:.2f} | {row['below_38']} of {row['pictures']} | "
                f"{row['below_32']} |"
            )


def stained(rows: Rows) -> Iterator[str]:
    """What was added to smooth regions of photographs without a reference."""
    yield "\n## Skies and walls\n"
    yield (
        "What was added to smooth regions of real photographs, in CIELAB units "
        "(`restorecli.scoring.metrics.stains`): mottle and banding that the photograph does not "
        "explain, and colour that near-white and gray regions gained. More contrast alone is "
        "neither. – means that nothing is smooth.\n"
    )
    yield "| task | method | worst mottle | worst tint | stained |"
    yield "|---|---|---|---|---|"
    found = [row for row in rows if row["set"] == "real"]
    for (task, _), pictures in grouped(found, "task", "method"):
        worst = (
            max((row[key] for row in pictures if row[key] is not None), default=None)
            for key in ("mottle", "tint")
        )
        mottle, tint = ("–" if value is None else f"{value:.1f}" for value in worst)
        bad = sum(not row["clean"] for row in pictures)
        method = called(pictures[0])
        yield f"| {task} | {method} | {mottle} | {tint} | {bad} of {len(pictures)} |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A real photograph, what became of it, and whom to thank for it."""

    file: str  # of the sheet
    task: str
    methods: tuple[str, ...]  # from left to right, after the photograph
    credit: str


def gallery(folder: Path, output: Path) -> list[Shown]:
    """A row of pictures for every photograph of ``folder`` that its manifest licenses."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as opened:
        listed = {row["file"]: row for row in csv.DictReader(opened)}
    names = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in {".jpg", ".png"}]
    pictures = dict(zip(names, load_photographs(folder), strict=True))
    tasks = {name: task_of(row["note"]) for name, row in listed.items() if row["licence"]}
    shown = []
    for task in sorted({task for task in tasks.values() if task}):
        chosen = [name for name in names if tasks.get(name) == task]
        network = defaults(task)[0]
        results = restored_by_all(task, network, [pictures[name] for name in chosen])
        for index, name in enumerate(chosen):
            cells = [pictures[name], *(made[index] for made in results.values())]
            file = f"real-{Path(name).stem}.jpg"
            write_row(output / file, cells)
            row = listed[name]
            credit = f"{row['source'].partition('@')[0]}, {row['licence']}"
            shown.append(Shown(file=file, task=task, methods=tuple(results), credit=credit))
    return shown


def restored_by_all(
    task: str, network: Network, pictures: Sequence[Levels]
) -> dict[str, list[Levels]]:
    """What the network, and the first classic method, make of the pictures."""
    results = {f"`{network.label}`": restored(task, pictures, network, "fp32")}
    if task in {"dehaze", "lowlight"}:
        method = methods_for(next(s for s in SETS if s.task == task))[0]
        results[method.name] = [method(Pair(degraded=p, clean=p)) for p in pictures]
    return results


def task_of(note: str) -> str:
    """The task for a photograph by the manifest's note, or an empty string."""
    return next((task for word, task in TASK_OF_NOTE.items() if word in note), "")


def write_row(path: Path, cells: Sequence[Levels]) -> None:
    """Pictures of one size side by side, as a JPEG."""
    height = round(CELL_PX * cells[0].shape[0] / cells[0].shape[1])
    small = [cv2.resize(c, (CELL_PX, height), interpolation=cv2.INTER_AREA) for c in cells]
    row = np.hstack(small)[..., ::-1]
    path.write_bytes(cv2.imencode(".jpg", row, [cv2.IMWRITE_JPEG_QUALITY, 86])[1].tobytes())


def pictured(shown: Sequence[Shown], sheets: Sequence[str]) -> Iterator[str]:
    """The pictures with their credits."""
    yield "\n## Real photographs\n"
    for picture in shown:
        order = ", ".join(("the photograph", *picture.methods))
        yield f"![{picture.task}](pictures/{picture.file})\n"
        yield f"{picture.task}: {order}. Photograph: {picture.credit}.\n"
    yield "\n## Made pairs\n"
    yield "Degraded, restored, reference (`python -m training.sheet TASK -o FILE`).\n"
    for task in sheets:
        yield f"{task}\n\n![{task}](pictures/sheet-{task}.jpg)\n"


def page(rows: Rows, shown: Sequence[Shown], sheets: Sequence[str]) -> str:
    """All of docs/quality.md."""
    parts = [HEAD, "## Figures", *scored(rows), *harm(rows), *stained(rows)]
    return "\n".join([*parts, *pictured(shown, sheets)]).rstrip() + "\n"


def main() -> None:
    """Draw the pictures and write the page."""
    parser = argparse.ArgumentParser(prog="python -m training.quality", description=__doc__)
    parser.add_argument("figures", type=Path, nargs="+", help="what evaluations wrote with --json")
    parser.add_argument("--real", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/quality.md"))
    args = parser.parse_args()
    rows = [row for file in args.figures for row in json.loads(file.read_text(encoding="utf-8"))]
    pictures = args.output.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    sheets = [name for name in SHEETS if (pictures / f"sheet-{name}.jpg").exists()]
    text = page(rows, gallery(args.real, pictures), sheets)
    args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
