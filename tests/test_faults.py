"""The command as a process that is killed, starved, robbed and disturbed: no photograph is lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorecli import cli as command_line
from restorecli.runs.manifest import LOCK, MANIFEST
from tests.conftest import run_command

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are tried by forking")
NOBODY = 65_534
LONG = pytest.mark.long


@pytest.fixture(autouse=True)
def one_thread():
    """A fork has no worker threads of OpenMP and would wait for them for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bench(tmp_path, identity_weights, cli):
    """A folder of pictures, and ways to run the command on it."""
    return Bench(tmp_path, identity_weights, cli)


@pytest.fixture
def open_bench(identity_weights, cli):
    """The same in a folder that a user without rights can reach."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        shutil.copy(identity_weights, folder)
        yield Bench(Path(folder), identity_weights, cli)


class Bench:
    def __init__(self, folder, weights, cli):
        self.folder = folder
        self.cli = cli
        self.options = ["--weights", weights.name]
        self.out = folder / "out"
        self.log = folder / "log.txt"

    def pictures(self, count, side=24):
        (self.folder / "in").mkdir()
        rng = np.random.default_rng(0)
        for i in range(count):
            values = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(values).save(self.folder / "in" / f"{i}.png")
        self.inputs = self.contents("in")
        weights = self.folder / self.options[1]  # here, so that forks find everything loaded
        undisturbed = ("derain", self.folder / "in", "-o", self.folder / "whole")
        assert self.cli(*undisturbed, "--weights", weights).exit_code == 0
        self.whole = self.contents("whole")
        assert len(self.whole) == count

    def contents(self, name):
        paths = (self.folder / name).iterdir() if (self.folder / name).exists() else ()
        return {p.name: p.read_bytes() for p in paths if p.name not in {MANIFEST, LOCK}}

    def start(self, *arguments, before=lambda: None):
        """The command in a process of its own, forked so that PyTorch is loaded once."""
        process_id = os.fork()
        if process_id:
            return process_id
        code = 99
        try:
            os.chdir(self.folder)
            descriptor = os.open(self.log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["restore", "derain", *map(str, arguments), *self.options]
            before()
            command_line.main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, *arguments, **options):
        return self.ended(self.start(*arguments, **options))

    @staticmethod
    def ended(process_id):
        return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])

    def wait_for_a_result(self):
        deadline = time.monotonic() + 60
        while not list(self.out.glob("[!.]*")) and time.monotonic() < deadline:
            time.sleep(0.002)

    def nothing_is_half_done(self):
        """Inputs as they were; what has its name is the whole result."""
        assert self.contents("in") == self.inputs
        for name, content in self.contents("out").items():
            if not name.startswith("."):
                assert content == self.whole[name], name

    def all_is_done(self):
        """Also: no temporary file is left."""
        assert self.contents("in") == self.inputs
        assert self.contents("out") == self.whole


@pytest.mark.parametrize(("kills", "count"), [(6, 8), pytest.param(200, 40, marks=LONG)])
def test_kills_at_random_points_lose_nothing(bench, kills, count):
    bench.pictures(count)
    started = time.monotonic()
    assert bench.run("in", "-o", "out") == 0
    undisturbed_s = time.monotonic() - started
    shutil.rmtree(bench.out)
    rng = random.Random(0)
    killed = finished = 0
    while killed < kills:
        process_id = bench.start("in", "-o", "out", "--resume")
        time.sleep(rng.uniform(0, 0.6 * undisturbed_s))
        os.kill(process_id, signal.SIGKILL)
        if bench.ended(process_id) == -signal.SIGKILL:
            killed += 1
            bench.nothing_is_half_done()
        else:
            finished += 1
            bench.all_is_done()
            shutil.rmtree(bench.out)
    assert bench.run("in", "-o", "out", "--resume") == 0, bench.log.read_text()
    bench.all_is_done()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_cleanly_at_any_time(bench, by):
    bench.pictures(8)
    rng = random.Random(int(by))
    for _ in range(3):
        process_id = bench.start("in", "-o", "out", "--resume")
        bench.wait_for_a_result()
        time.sleep(rng.uniform(0.05, 0.4))
        os.kill(process_id, by)
        code = bench.ended(process_id)
        assert code in {0, 130}, bench.log.read_text()
        said = bench.log.read_text()
        assert "Traceback" not in said
        bench.nothing_is_half_done()
        assert not [name for name in bench.contents("out") if name.startswith(".")]
    assert bench.run("in", "-o", "out", "--resume") == 0
    bench.all_is_done()


@pytest.mark.parametrize(
    "point", [1, 2, 3, 8, *(pytest.param(p, marks=LONG) for p in (*range(4, 8), *range(9, 24)))]
)
def test_a_disk_that_is_full_from_some_write_on(bench, point):
    """Every flush to the disk fails from the ``point``-th on: of data, manifest or folder.

    There are three for each picture. The last of all, the 24th, comes when nothing can be lost.
    """
    bench.pictures(8)

    def fill():
        flushed, real = 0, os.fsync

        def fsync(descriptor):
            nonlocal flushed
            flushed += 1
            if flushed >= point:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        os.fsync = fsync

    code = bench.run("in", "-o", "out", before=fill)
    said = bench.log.read_text()
    assert code == (1 if bench.contents("out") else 2), said
    assert "No space left on device" in said
    assert "Traceback" not in said
    bench.nothing_is_half_done()
    assert not [name for name in bench.contents("out") if name.startswith(".")]
    assert bench.run("in", "-o", "out", "--resume") == 0
    bench.all_is_done()


@LONG
def test_a_small_disk_that_is_really_full(bench):
    bench.pictures(20, side=64)
    bench.out.mkdir()
    needed = sum(len(content) for content in bench.whole.values())
    for share in range(1, 21):
        size = f"size={max(8192, int(needed * share / 22)) // 4096 * 4}k"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", bench.out])
        if mounted.returncode:
            pytest.skip("a small file system cannot be mounted here")
        try:
            code = bench.run("in", "-o", "out")
            said = bench.log.read_text()
            assert code == (1 if bench.contents("out") else 2), said
            assert "Traceback" not in said
            bench.nothing_is_half_done()
            subprocess.run(["mount", "-o", "remount,size=64m", bench.out], check=True)
            assert bench.run("in", "-o", "out", "--resume") == 0, bench.log.read_text()
            bench.all_is_done()
        finally:
            subprocess.run(["umount", bench.out], check=True)


def become_nobody():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def give_to_nobody(folder):
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def test_a_permission_that_is_revoked_midway(open_bench):
    bench = open_bench
    bench.pictures(8)
    bench.out.mkdir()
    give_to_nobody(bench.folder)
    process_id = bench.start("in", "-o", "out", before=become_nobody)
    bench.wait_for_a_result()
    bench.out.chmod(0o555)
    code = bench.ended(process_id)
    said = bench.log.read_text()
    bench.out.chmod(0o755)
    assert code == 1, (said, bench.contents("out").keys())
    assert "Permission denied" in said
    assert "Traceback" not in said
    bench.nothing_is_half_done()
    assert bench.run("in", "-o", "out", "--resume", before=become_nobody) == 0
    bench.all_is_done()


def test_an_output_that_was_never_writable(open_bench):
    bench = open_bench
    bench.pictures(2)
    bench.out.mkdir()
    give_to_nobody(bench.folder)
    bench.out.chmod(0o555)
    assert bench.run("in", "-o", "out", before=become_nobody) == 2
    assert "Permission denied" in bench.log.read_text()
    assert "Traceback" not in bench.log.read_text()
    assert bench.contents("out") == {}


def test_inputs_that_vanish_midway(bench):
    bench.pictures(8)
    process_id = bench.start("in", "-o", "out")
    bench.wait_for_a_result()
    (bench.folder / "in" / "7.png").unlink()
    assert bench.ended(process_id) == 1
    assert "no such file" in bench.log.read_text()
    assert "Traceback" not in bench.log.read_text()
    expected = {name: content for name, content in bench.whole.items() if name != "7.png"}
    assert bench.contents("out") == expected


def test_a_reader_of_stdout_that_goes_away(bench):
    bench.pictures(8)
    process = subprocess.Popen(
        [sys.executable, "-m", "restorecli", "derain", "in", "-o", "out", "--json", *bench.options],
        cwd=bench.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1
    assert "Traceback" not in said
    bench.nothing_is_half_done()
    assert bench.run("in", "-o", "out", "--resume") == 0
    bench.all_is_done()


def test_two_processes_on_one_folder_share_the_work(bench):
    bench.pictures(8)
    both = [bench.start("in", "-o", "out", "--resume") for _ in range(2)]
    assert [bench.ended(process_id) for process_id in both] == [0, 0], bench.log.read_text()
    bench.all_is_done()


def test_a_kill_while_a_picture_is_replaced_in_place(bench):
    bench.pictures(6)
    for round_ in range(4):
        process_id = bench.start("in", "--in-place", "--resume")
        time.sleep(0.2 + 0.15 * round_)
        os.kill(process_id, signal.SIGKILL)
        bench.ended(process_id)
        for name, content in bench.contents("in").items():
            if not name.startswith("."):
                assert content in {bench.inputs[name], bench.whole[name]}
    assert bench.run("in", "--in-place", "--resume") == 0, bench.log.read_text()
    assert bench.contents("in") == bench.whole


def test_the_command_itself_resumes(bench):
    """Once without forking: as a user starts it."""
    bench.pictures(2)
    assert (
        run_command("derain", "in", *bench.options, "-o", "out", cwd=bench.folder).returncode == 0
    )
    again = run_command("derain", "in", *bench.options, "-o", "out", "--resume", cwd=bench.folder)
    assert again.returncode == 0
    assert "2 skipped" in again.stderr
    bench.all_is_done()
