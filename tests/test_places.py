"""Every place a tool runs in: odd file systems, users without a home, streams of any kind."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorecli.files.atomic import IN_TWO_STEPS, NOT_FLUSHED, NOT_PERMITTED
from restorecli.runs.manifest import MANIFEST
from restorecli.weights import download  # noqa: F401 (loaded before a fork)
from tests import shim
from tests.conftest import pixels_of
from tests.forks import become_a_stranger, forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="places of POSIX systems")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    found = shim.built(tmp_path_factory.mktemp("shim"))
    if found is None:
        pytest.skip("there is no C compiler here")
    return found


@pytest.fixture
def start(tmp_path):
    """The real command as a process of its own, with other surroundings."""

    def begun(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= options.pop("env", {})
        return subprocess.run(
            [sys.executable, "-m", "restorecli", *map(str, arguments)],
            cwd=tmp_path, capture_output=options.pop("capture_output", True), env=environment,
            timeout=300, **options,
        )  # fmt: skip

    return begun


# File systems that cannot do everything


@pytest.mark.parametrize(
    "plan",
    ["flock:37,link:1,chmod:1,fsync:22,rename:17", "flock:38,link:95,chmod:95,fsync:95,rename:1"],
)
def test_what_a_file_system_cannot_do_is_noted_and_the_work_goes_on(
    start, library, identity_weights, photo_file, tmp_path, plan
):
    photo_file("in/a.png", 16, 16)
    (tmp_path / "out").mkdir()
    old = photo_file("out/a.png", 24, 24)
    old.chmod(0o640)
    ended = start(
        "derain", "in", "-o", "out", "--overwrite", "--weights", identity_weights,
        env={"LD_PRELOAD": str(library), "FAIL": plan, "FAIL_BELOW": str(tmp_path / "out")},
        text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert np.array_equal(pixels_of(tmp_path / "out/a.png"), pixels_of(tmp_path / "in/a.png"))
    assert {p.name for p in (tmp_path / "out").iterdir()} <= {"a.png", MANIFEST, ".restore.lock"}
    assert (tmp_path / "out" / MANIFEST).read_bytes().count(b"\n") == 1
    for note in (NOT_FLUSHED, NOT_PERMITTED, IN_TWO_STEPS):
        assert note in ended.stderr


def test_a_disk_that_fails_is_no_file_system_without_fsync(
    start, library, identity_weights, photo_file, tmp_path
):
    photo_file("in/a.png", 16, 16)
    surroundings = {
        "LD_PRELOAD": str(library), "FAIL": "fsync:5", "FAIL_BELOW": str(tmp_path / "out")
    }  # fmt: skip
    ended = start(
        "derain", "in", "-o", "out", "--weights", identity_weights, env=surroundings, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert os.strerror(errno.EIO) in ended.stderr
    assert not (tmp_path / "out/a.png").exists()


def test_scores_need_no_shared_memory(start, library, photo_file, tmp_path):
    for i in range(33):  # enough for a pool of processes
        photo_file(f"in/{i}.png", 16, 16)
    surroundings = {"LD_PRELOAD": str(library), "FAIL": "sem_open:38"}
    ended = start(
        "metrics", "in", "--ref", "in", "--jobs", 2, "--json", env=surroundings, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 34


# Users without a home


@pytest.fixture
def loaded(cli, tmp_path, photo_file, identity_weights):
    """Everything that the command loads lazily is there before a fork; PyTorch has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork has no worker threads of OpenMP and would wait for them
    photo = photo_file("loaded/p.png", 16, 16)
    cli("derain", photo, "--weights", identity_weights)
    cli("metrics", photo, "--ref", photo)
    cli("doctor", "--offline")
    resources.files("restorecli.report")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared(picture, identity_weights):
    """A folder that every user can reach, with a picture and a network."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        Image.fromarray(picture(16, 16)).save(folder / "p.png")
        shutil.copy(identity_weights, folder / "w.safetensors")
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)
        yield folder


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent"}, {"HOME": "/root"}])
def test_a_user_without_a_home_restores_and_looks_around(shared, home):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    be = partial(become_a_stranger, **home)
    ended = forked(shared, "derain", "p.png", "--weights", "w.safetensors", before=be)
    assert ended.code == 0, ended.err
    assert "p.derain.png" in ended.err
    for arguments in (("models", "list"), ("doctor", "--offline"), ("derain", "w.png", "-n")):
        shutil.copy(shared / "p.png", shared / "w.png")
        ended = forked(shared, *arguments, before=be)
        assert ended.code == 0, ended.err
    for arguments in (
        ("derain", "w.png", "--quality", "best", "--offline"),
        ("models", "import", "w.safetensors", "--task", "derain"),
    ):
        ended = forked(shared, *arguments, before=be)
        assert ended.code == 4, ended.err
    assert "RESTORE_HOME" in ended.err


def test_a_store_that_cannot_be_written_is_one_sentence(cli, identity_weights, own_folder):
    shutil.rmtree(own_folder)
    own_folder.write_bytes(b"a file where the folder should be")
    outcome = cli("models", "import", identity_weights, "--task", "derain")
    assert outcome.exit_code == 4
    assert "Cannot write" in outcome.stderr
    assert "RESTORE_HOME" in outcome.stderr


# Streams


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "cp437"])
@pytest.mark.usefixtures("loaded")
def test_no_character_ends_a_command(photo_file, tmp_path, encoding):
    photo_file("p.png", 16, 16)
    photo_file("in/語é.png", 16, 16)
    ended = forked(tmp_path, "models", "list", encoding=encoding)
    assert ended.code == 0, ended.err
    ended.out.decode(encoding)
    ended = forked(tmp_path, "metrics", "p.png", "--ref", "p.png", encoding=encoding)
    assert ended.code == 0, ended.err
    assert ("inf" if encoding != "cp437" else "∞") in ended.out.decode(encoding)
    ended = forked(tmp_path, "derain", "in", "-n", encoding=encoding)
    assert ended.code == 0, ended.err
    assert "\\u8a9e" in ended.err


@pytest.mark.usefixtures("loaded")
def test_a_closed_stream_is_told_or_not_needed(photo_file, identity_weights, tmp_path):
    photo_file("p.png", 16, 16)
    network = ("--weights", identity_weights, "--overwrite")
    for closed in ((0,), (1,), (0, 1, 2)):
        ended = forked(tmp_path, "derain", "p.png", *network, closed=closed)
        assert ended.code == 0, ended.err
        assert pixels_of(tmp_path / "p.derain.png").shape == (16, 16, 3)
    for arguments, closed, output, code, sentence in (
        (("derain", "-", "-o", "x.png", *network), (0,), None, 3, "Standard input is closed"),
        (("derain", "p.png", "-o", "-", *network), (1,), None, 2, "Standard output is closed"),
        (("derain", "p.png", "--json", *network), (1,), None, 2, "Standard output is closed"),
        (("metrics", "p.png", "--ref", "p.png"), (1,), None, 2, "Standard output is closed"),
        (("models", "list"), (1,), None, 2, "Standard output is closed"),
        (("models", "list", "--json"), (), "/dev/full", 2, "No space left on device"),
        (("metrics", "p.png", "--ref", "p.png"), (), "/dev/full", 2, "No space left on device"),
        (("derain", "p.png", "-o", "-", *network), (), "/dev/full", 2, "No space left on device"),
    ):
        ended = forked(tmp_path, *arguments, closed=closed, output=output)
        assert (ended.code, sentence in ended.err) == (code, True), (arguments, ended)


def test_a_name_with_colons_is_no_emoji(cli, photo_file, identity_weights, tmp_path):
    photo_file("in/:smile:.png", 16, 16)
    photo_file("in/[bold]b.png", 16, 16)
    outcome = cli("derain", tmp_path / "in", "--weights", identity_weights)
    assert outcome.exit_code == 0
    assert ":smile:.png" in outcome.stderr
    assert "[bold]b.png" in outcome.stderr


# Signals


def test_a_closed_terminal_ends_a_run_as_ctrl_c_does(photo_file, tmp_path, random_weights):
    for i in range(40):
        photo_file(f"in/{i}.png", 200, 200)
    arguments = [
        "derain",
        "in",
        "-o",
        "out",
        "--weights",
        str(random_weights),
        "--report",
        "r.json",
    ]
    process_id, terminal = pty.fork()
    if process_id == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(ROOT)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        os.execv(sys.executable, [sys.executable, "-m", "restorecli", *arguments])
    fcntl.fcntl(terminal, fcntl.F_SETFL, os.O_NONBLOCK)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
        with suppress(BlockingIOError):
            os.read(terminal, 65536)
    os.close(terminal)  # the window is closed: SIGHUP, and nobody reads any more
    code = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
    assert code == 130
    done = list((tmp_path / "out").glob("[!.]*"))
    assert 0 < len(done) < 40
    assert not list((tmp_path / "out").glob("*.partial"))
    assert '"interrupted": true' in (tmp_path / "r.json").read_text()


def test_nohup_goes_on(photo_file, tmp_path, random_weights):
    for i in range(12):
        photo_file(f"in/{i}.png", 120, 120)
    process = subprocess.Popen(
        [sys.executable, "-m", "restorecli", "derain", "in", "-o", "out", "--weights",
         str(random_weights)],
        cwd=tmp_path, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    assert len(list((tmp_path / "out").glob("[!.]*"))) == 12
