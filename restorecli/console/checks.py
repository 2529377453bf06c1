"""What is wrong with each picture, and what to type: on standard output, as it was asked for."""

from __future__ import annotations

from collections import Counter

from restorecli.console import show_json, show_line, words
from restorecli.errors import RestoreError
from restorecli.report.words import printable
from restorecli.scoring.faults.check import Checked
from restorecli.scoring.faults.verdict import TASKS


class Display:
    """Tells of pictures one after the other, and counts them."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.counts: Counter[str] = Counter()

    def show(
        self, name: str, one: Checked | None, error: RestoreError | None, *, of_many: bool
    ) -> None:
        """A picture that was judged, in full or in a line; or why it could not be."""
        if one is None:
            self.counts["failed"] += 1
            if self.as_json:
                show_json({"type": "check", "input": name, "status": "failed", "error": str(error)})
            words().print(f"failed  {printable(name)}: {printable(str(error))}", markup=False)
            return
        data = one.as_data()
        self.counts[data["verdict"]] += 1
        if self.as_json:
            show_json(data)
        elif not self.quiet:
            self._say(one, of_many=of_many)

    def _say(self, one: Checked, *, of_many: bool) -> None:
        if of_many:
            show_line(f"{printable(one.name)}: {printable(one.sentence())}")
            return
        height, width = one.size
        quality = "" if one.jpeg_quality is None else f", JPEG quality about {one.jpeg_quality}"
        show_line(f"{printable(one.name)}  {width} × {height}{quality}")
        for fault, chance, measured in one.lines():
            show_line(f"  {fault:16} {chance:>4}   {measured}".rstrip())
        show_line(printable(one.sentence()))

    def summary(self) -> None:
        """How many of each."""
        if self.as_json:
            show_json({"type": "checked", "counts": dict(self.counts)})
        total = sum(self.counts.values())
        if self.quiet or total < 2:
            return
        said = [f"{self.counts['nothing']} with nothing to do"]
        said += [f"{self.counts[f]} for {task}" for f, task in TASKS.items() if self.counts[f]]
        said += [f"{self.counts['unsure']} not sure"] if self.counts["unsure"] else []
        said += [f"{self.counts['failed']} failed"] if self.counts["failed"] else []
        words().print(f"{total} pictures: {', '.join(said)}.", markup=False)
