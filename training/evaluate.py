"""Score the networks: ``python -m training.evaluate --data DIR [TASK …]``.

Runs the ``restore`` command itself on whole pictures saved as PNG and prints, for each test set,
what the input scores, what the networks make of it, and what classic methods make of the same
pictures. ``DIR`` holds ``derain/input``, ``derain/target`` and so on; sets without real pairs are
made from the clean pictures of ``denoise_gauss/target``. ``--free`` names a folder of good
photographs that have to come back as they are, ``--real`` one of photographs without a reference
whose skies and walls have to stay clean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from restorecli.scoring.metrics import PROTOCOLS
from training.classic import methods_for
from training.judging import judge, kept_figures
from training.runner import Network, candidates, defaults, restored
from training.stained import REAL_TASKS, real_rows
from training.tables import Row, block, gain_of
from training.testsets import (
    HARMLESS,
    SETS,
    TURNED_SUFFIX,
    Levels,
    Pair,
    TestSet,
    digest,
    pairs_of,
    undegraded,
)

CLEAN_NAME = "CBSD68, not degraded"
FREE_NAME = "free photographs, not degraded"
TURNED = "derain"  # has to work in any direction
LEAST_GAIN_DB = 0.05  # below which there is nothing to take a share of


def sets_for(
    tasks: Sequence[str], free: Path | None = None, names: Sequence[str] = ()
) -> list[TestSet]:
    """The sets of ``tasks``, all of them if none is named; ``names`` are those of ``free``."""
    upright = [s for s in SETS if not tasks or s.task in tasks]
    chosen = [t for s in upright for t in ([s, s.turned()] if s.task == TURNED else [s])]
    for task in HARMLESS:
        if not tasks or task in tasks:
            chosen.append(undegraded(task, "denoise_gauss/target", CLEAN_NAME))
            if free:
                chosen.append(undegraded(task, str(free.absolute()), FREE_NAME, names))
    return chosen


def rows_of(
    chosen: TestSet,
    pairs: Sequence[Pair],
    networks: Sequence[Network],
    options: argparse.Namespace,
) -> Iterator[Row]:
    """The input, each network, and each classic method, scored on the same pictures."""
    protocol = PROTOCOLS[chosen.protocol]
    targets = [pair.clean for pair in pairs]

    def row(method: str, kind: str, results: Callable[[], Sequence[Levels]]) -> Row:
        found = kept_figures(
            None if kind == "network" else options.cache,
            f"{method} {chosen.protocol} {digest(pairs)}",
            lambda: judge(results(), targets, protocol),
        )
        return Row(chosen=chosen, method=method, kind=kind, figures=found)

    inputs = [pair.degraded for pair in pairs]
    yield row("input", "input", lambda: inputs)
    for network in networks:
        run = partial(restored, chosen.task, inputs, network, options.precision)
        yield row(network.label, "network", run)
    if options.networks_only:
        return
    for method in methods_for(chosen):
        if method.is_installed:
            yield row(method.name, "classic", partial(method.all, pairs, options.cache))
        else:
            yield Row(chosen=chosen, method=method.name, kind="classic", figures=None)


def arguments() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    add = parser.add_argument
    add("tasks", nargs="*", metavar="TASK", help="default: all")
    add("--data", type=Path, required=True, help="folder of the test sets")
    add("--free", type=Path, help="folder of good photographs: they must not change")
    add("--names", type=Path, metavar="FILE", help="of --free only these, one a line, such as "
        "training/held_out.txt: those that no network has seen")  # fmt: skip
    add("--real", type=Path, help="folder of real photographs: smooth regions must stay clean")
    add("--sets", nargs="+", metavar="TEXT", help="only sets whose names contain one of these")
    add("--limit", type=int, metavar="N", help="at most N pictures of each set, evenly spread")
    add("--model", action="append", default=[], metavar="ID", help="besides the default")
    add("--weights", action="append", default=[], metavar="[TASK=]FILE", help="likewise")
    add("--network", action="append", default=[], metavar="TASK=NAME{OPTIONS}",
        help='of a file that does not say: derain=hint{"dim": 32, "packing": 2}')  # fmt: skip
    add("--networks-only", action="store_true", help="no classic methods, which take longer")
    add("--named-only", action="store_true", help="without the default networks")
    add("--precision", default="fp32", help="as for `restore --precision`")
    add("--cache", type=Path, metavar="DIR", help="keep what classic methods give there")
    add("--json", type=Path, metavar="FILE", help="also write every figure there")
    return parser


class Evaluation:
    """Figures as they come: printed, kept for the sets that follow, and written to a file."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.extra = candidates(options.model, options.weights, options.network)
        self.gains: dict[tuple[str, str], float] = {}  # by set and method, in dB
        self.data: list[dict[str, Any]] = []

    def networks(self, chosen: TestSet | str) -> list[Network]:
        """Those of the task by default, and those that were named."""
        task = chosen if isinstance(chosen, str) else chosen.task
        usual = [] if self.options.named_only else defaults(chosen)
        return [*usual, *self.extra.get(task, [])]

    def judge_set(self, chosen: TestSet) -> None:
        """Print one set."""
        pairs = pairs_of(chosen, self.options.data, self.options.limit)
        rows = list(rows_of(chosen, pairs, self.networks(chosen), self.options))
        print(block(rows, digest(pairs) if chosen.degrade else ""), flush=True)
        for row in rows:
            data = row.as_data()
            if row.figures and row.kind != "input":
                self.gains[chosen.name, row.method] = gain_of(rows, row.method)
                data["gain_db"] = self.gains[chosen.name, row.method]
            if chosen.quarter_turns and row.kind == "network":
                upright = self.gains[chosen.name.removesuffix(TURNED_SUFFIX), row.method]
                share = data["gain_db"] / upright if upright > LEAST_GAIN_DB else None
                data["share_of_upright_gain"] = share
                text = "no gain upright" if share is None else f"{share:.2f} of the gain upright"
                print(f"  {row.method}: {text}", flush=True)
            self.data.append(data)
        self.write()

    def judge_real(self, task: str) -> None:
        """Print what one task does to photographs without a reference."""
        rows = real_rows(task, self.options.real, self.networks(task), self.options)
        print("\n".join(row.line for row in rows), flush=True)
        self.data += [row.as_data() for row in rows]
        self.write()

    def write(self) -> None:
        """All figures so far, so that an interruption loses none."""
        if self.options.json:
            text = json.dumps(self.data, indent=1, ensure_ascii=False)
            self.options.json.write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Parse the command line, and print and write the figures set after set."""
    parser = arguments()
    options = parser.parse_args()
    if unknown := set(options.tasks) - {s.task for s in SETS}:
        parser.error(f"there is no test set for {', '.join(sorted(unknown))}")
    evaluation = Evaluation(options)
    names = options.names.read_text(encoding="utf-8").split("\n") if options.names else []
    free_names = [name.strip() for name in names if name.strip()]
    for chosen in sets_for(options.tasks, options.free, free_names):
        if options.sets and not any(text in chosen.name for text in options.sets):
            continue
        evaluation.judge_set(chosen)
    if options.real:
        for task in REAL_TASKS:
            if not options.tasks or task in options.tasks:
                evaluation.judge_real(task)


if __name__ == "__main__":
    main()
