"""How far does one driver reach, and what do two actors gain? ``python -m benchmarks.scale``.

``entries``: a list of many small pictures through Ray with a network that does nothing: seconds
and memory of the driver for the selection, the run, and a resumed run of what is finished.
``throughput``: photos with the bundled network, by one process of one thread and by two actors of
one thread, taking turns.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from restorecli.engine.settings import EngineSettings
from restorecli.machine.allocator import collect_rarely
from restorecli.report import Report
from restorecli.runs.job import Job, Pool, make_job
from restorecli.runs.listener import Silent
from restorecli.runs.manifest import MANIFEST
from restorecli.runs.naming import Naming
from restorecli.runs.ray.connection import cluster
from restorecli.runs.ray.crew import Crew
from restorecli.runs.ray.driver import setup_of
from restorecli.runs.ray.probes import Probes
from restorecli.runs.ray.worker import Facts, Setup, Worker
from restorecli.runs.rows import collect, settings_of, settled
from restorecli.runs.selection import WhatExists, expand
from restorecli.weights import choose_model

SIDE_PX = 32  # of the small pictures


class NullWorker(Worker):
    """Reads and writes as any other, and restores nothing."""

    def start(self, setup: Setup, probes: Probes) -> Facts:
        """Load a network, and put one in its place that gives its input back."""
        from restorecli.engine.engine import Engine
        from restorecli.engine.plan import Plan

        class Null(Engine):
            def restore(self, pixels: Any, *arguments: Any, **options: Any) -> tuple[Any, Plan]:
                """The pixels as they are."""
                plan = Plan(
                    tile_px=None,
                    overlap_px=0,
                    strip_rows=64,
                    keep_bytes=0,
                    held_bytes=0,
                    needed_bytes=0,
                )
                return pixels, plan

        facts = super().start(setup, probes)
        self.engine = Null(**{f.name: getattr(self.engine, f.name) for f in fields(Engine)})
        return facts


def job_for(inputs: list[Path], folder: Path, existing: WhatExists) -> Job:
    """Restore ``inputs`` into ``folder`` with the bundled network, on one thread."""
    settings = EngineSettings(model=choose_model("derain"), device="cpu", threads=1)
    naming = Naming(task="derain", output=str(folder))
    return make_job(inputs, naming, settings, existing=existing)


def crew_of(job: Job, worker: type[Worker]) -> Crew:
    """A crew for the pictures of ``job``, not started."""
    probes = Probes(inputs=[], written=[], created=[])  # the workers are on this machine
    setup = setup_of(job, device="cpu")
    return Crew(job.selection.items, setup, probes, cpus=1, gpus=0.0, worker=worker)


def reported(job: Job, rows: Any) -> Report:
    """What the command makes of rows."""
    settings = settings_of(job, device="cpu", precision="fp32")
    return collect(job, rows, Silent(), settings)


def listed(folder: Path, existing: WhatExists) -> Job:
    """The pictures of the list in ``folder``."""
    return job_for(expand([f"@{folder / 'list.txt'}"]), folder / "out", existing)


def peak_mb() -> float:
    """Most memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def first(folder: Path, actors: int) -> dict[str, float]:
    """The list once, with a network that does nothing."""
    begun = time.perf_counter()
    job = listed(folder, "refuse")
    chosen = time.perf_counter()
    with cluster(Pool(actors=actors)), crew_of(job, NullWorker) as crew:
        crew.start(actors)
        ready = time.perf_counter()
        report = reported(job, crew.rows(range(len(job.selection.items))))
        done = time.perf_counter()
    assert report.counts["ok"] == len(job.selection.items), report.counts
    return {"select_s": chosen - begun, "run_s": done - ready, "peak_mb": peak_mb()}


def again(folder: Path) -> dict[str, float]:
    """The finished list with ``--resume``."""
    begun = time.perf_counter()
    job = listed(folder, "resume")
    chosen = time.perf_counter()
    report = reported(job, ((i, settled(item)) for i, item in enumerate(job.selection.items)))
    done = time.perf_counter()
    assert report.counts["skipped"] == len(job.selection.items), report.counts
    return {"select_s": chosen - begun, "run_s": done - chosen, "peak_mb": peak_mb()}


def phase(*arguments: str) -> dict[str, float]:
    """One phase in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def entries(count: int, actors: int) -> None:
    """Print what a list of ``count`` pictures costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        stream = io.BytesIO()
        Image.new("RGB", (SIDE_PX, SIDE_PX), (10, 20, 30)).save(stream, "PNG")
        paths = [folder / "in" / f"{i:09}.png" for i in range(count)]
        for path in paths:
            path.write_bytes(stream.getvalue())
        (folder / "list.txt").write_text("\n".join(map(str, paths)))
        run = phase("first", name, str(actors))
        resume = phase("again", name)
        manifest_bytes = (folder / "out" / MANIFEST).stat().st_size
    print(f"{count:,} pictures of {SIDE_PX}×{SIDE_PX}, {actors} actors, {load()}")
    for what, found in (("run", run), ("resume", resume)):
        total_s = found["select_s"] + found["run_s"]
        print(
            f"{what:>7}: {total_s:8.1f} s, {total_s / count * 1e3:.2f} ms an image "
            f"({found['select_s']:.1f} s of them selection); peak of the driver "
            f"{found['peak_mb']:.0f} MB"
        )
    print(f"manifest: {manifest_bytes / count:.0f} bytes an image")


def throughput(photos: int, side_px: int, repeats: int) -> None:
    """Print photos per second of one process and of two actors."""
    from restorecli.engine.bench import made_up_picture
    from restorecli.engine.chain import prepare_chain
    from restorecli.runs import local as batch

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = Image.fromarray(made_up_picture(side_px, side_px, gray=False))
        (folder / "in").mkdir()
        for i in range(photos):
            picture.save(folder / "in" / f"{i}.png")
        rates: dict[str, list[float]] = {"one process": [], "two actors": []}
        job = job_for([folder / "in"], folder / "out", "replace")
        engine = prepare_chain([job.engine])
        with cluster(Pool(actors=2)), crew_of(job, Worker) as crew:
            crew.start(2)
            for turn in range(repeats + 1):
                for way in rates:
                    job = job_for([folder / "in"], folder / "out", "replace")
                    crew.items = job.selection.items
                    begun = time.perf_counter()
                    if way == "one process":
                        report = batch.run_with(engine, job, Silent())
                    else:
                        report = reported(job, crew.rows(range(photos)))
                    assert report.counts["ok"] == photos, report.counts
                    if turn:  # the first one is for what is set up once
                        rates[way].append(photos / (time.perf_counter() - begun))
    print(f"{photos} photos of {side_px}×{side_px}, one thread each, {repeats} turns, {load()}")
    medians = {way: statistics.median(found) for way, found in rates.items()}
    for way, found in rates.items():
        print(f"{way:>12}: {medians[way]:.3f} photos/s ({min(found):.3f} … {max(found):.3f})")
    print(f"two actors reach {medians['two actors'] / 2 / medians['one process']:.1%} of twice one")


def load() -> str:
    """How many cores there are, and how busy they were."""
    return f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    way = ways.add_parser("entries", help="a long list with a network that does nothing")
    way.add_argument("--entries", type=int, default=200_000)
    way.add_argument("--actors", type=int, default=2)
    way = ways.add_parser("throughput", help="two actors against one process")
    way.add_argument("--photos", type=int, default=40)
    way.add_argument("--side", type=int, default=256)
    way.add_argument("--repeats", type=int, default=3)
    way = ways.add_parser("first", help="one phase of entries")
    way.add_argument("folder", type=Path)
    way.add_argument("actors", type=int)
    way = ways.add_parser("again", help="another one")
    way.add_argument("folder", type=Path)
    options = parser.parse_args()
    collect_rarely()  # as the command does
    if options.way == "entries":
        entries(options.entries, options.actors)
    elif options.way == "throughput":
        throughput(options.photos, options.side, options.repeats)
    elif options.way == "first":
        print(json.dumps(first(options.folder, options.actors)))
    else:
        print(json.dumps(again(options.folder)))


if __name__ == "__main__":
    main()
