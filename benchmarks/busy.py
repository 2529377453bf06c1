"""What becomes of a command when it does not have the machine for itself?

``python -m benchmarks.busy`` runs ``restore derain`` on a square photo, whole and cold, beside
processes that only count, and under a quota of one core. The ways of running it take turns, so that
whatever else the machine does meets them all. ``spinning`` is what OpenMP does by itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

import restorecli
from benchmarks.common import machine
from restorecli.engine.bench import made_up_picture
from restorecli.machine.cgroups import group_folders

SPINNING = {"GOMP_SPINCOUNT": "300000"}  # turns in a barrier, GNU OpenMP's own default
WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "--threads 1": (["--threads", "1"], {}),
    "default": ([], {}),
    "spinning": ([], SPINNING),
}
BESIDE = {  # condition: how nice each process beside the command is
    "nothing else runs": [],
    "one core held at nice -5": [-5],
    "one equal process": [0],
    "three equal processes": [0, 0, 0],
}
QUOTA = "a quota of one core"
PERIOD_US = 100_000
GROUP = "restorecli-benchmark"
V2 = Path("/sys/fs/cgroup")


def main() -> None:
    """Print the seconds of each way under each condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="of the square photo, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--conditions", nargs="+", choices=[*BESIDE, QUOTA], default=[*BESIDE, QUOTA]
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    compile_dir(Path(restorecli.__file__).parent, quiet=1)  # as an installation does
    with tempfile.TemporaryDirectory() as name:
        photo = Path(name) / "photo.png"
        Image.fromarray(made_up_picture(options.side, options.side, gray=False)).save(photo)
        print(f"restore derain, {options.side}x{options.side}, cold; {machine()}")
        print(f"median, least and most of {options.repeats} runs, in turn; times: of --threads 1")
        print(
            f"{'condition':>26} {'way':>12} {'median s':>9} {'min s':>7} {'max s':>7} {'times':>6}"
        )
        for condition in options.conditions:
            with beside(condition) as run:
                seconds: dict[str, list[float]] = {way: [] for way in options.ways}
                for _ in range(options.repeats):
                    for way in options.ways:
                        seconds[way].append(timed(run, photo, way))
            alone = statistics.median(seconds[options.ways[0]])
            for way, each in seconds.items():
                median = statistics.median(each)
                print(
                    f"{condition:>26} {way:>12} {median:9.2f} {min(each):7.2f} {max(each):7.2f} "
                    f"{median / alone:6.2f}",
                    flush=True,
                )


Run = Callable[[list[str], dict[str, str]], None]


def timed(run: Run, photo: Path, way: str) -> float:
    """Seconds of one whole command."""
    arguments, settings = WAYS[way]
    command = [sys.executable, "-m", "restorecli", "derain", str(photo), "--quiet", "--overwrite",
               "-o", str(photo.with_name("restored.png")), *arguments]  # fmt: skip
    start = time.perf_counter()
    run(command, os.environ | settings)
    return time.perf_counter() - start


@contextmanager
def beside(condition: str) -> Iterator[Run]:
    """A way to run a command under ``condition``."""
    if condition == QUOTA:
        with quota() as run:
            yield run
        return
    spawn = multiprocessing.get_context("spawn")
    counting = [
        spawn.Process(target=count, args=(nice,), daemon=True) for nice in BESIDE[condition]
    ]
    for process in counting:
        process.start()
    time.sleep(1 if counting else 0)
    try:
        yield lambda command, environment: _run(command, environment)
    finally:
        for process in counting:
            process.kill()
            process.join()


def count(nice: int) -> None:
    """Keep a core busy until the process is ended."""
    os.nice(nice)
    total = 0
    while True:
        total += 1


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True)


@contextmanager
def quota() -> Iterator[Run]:
    """Run commands in a cgroup of one core, or stopped for a part of the time where there is none.

    Stopped, a command does not know that it has one core, and uses all it sees for their share.
    """
    own = next(group_folders("cpu"), V2)  # of this process: what it may use is shared out below
    for folder, settings in (
        (own / GROUP, {"cpu.cfs_period_us": f"{PERIOD_US}", "cpu.cfs_quota_us": f"{PERIOD_US}"}),
        (own / GROUP, {"cpu.max": f"{PERIOD_US} {PERIOD_US}"}),
    ):
        with suppress(OSError):
            if not folder.parent.joinpath("cgroup.procs").exists():
                continue
            folder.mkdir(exist_ok=True)
            for name, value in settings.items():
                (folder / name).write_text(value)
            procs = folder / "cgroup.procs"
            join = f'echo $$ > {procs} && exec "$@"'
            yield lambda command, environment, join=join: _run(
                ["sh", "-c", join, "sh", *command], environment
            )
            folder.rmdir()
            return
    print("no cgroup can be made here: the command is stopped for a part of the time instead")
    yield _run_stopped


def _run_stopped(command: list[str], environment: dict[str, str]) -> None:
    """Let a process run for one core's share of the time."""
    share = 1 / len(os.sched_getaffinity(0))
    process = subprocess.Popen(command, env=environment)
    ended = threading.Event()

    def stop_and_go() -> None:
        while not ended.wait(share * PERIOD_US / 1e6):
            process.send_signal(signal.SIGSTOP)
            time.sleep((1 - share) * PERIOD_US / 1e6)
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
