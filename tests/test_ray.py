"""A real Ray cluster of three nodes on this machine, and what is done to it."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from restorecli.engine.chain import prepare_chain
from restorecli.engine.settings import EngineSettings
from restorecli.errors import DeviceError, InputError, OutputError, UsageError
from restorecli.runs.items import Item
from restorecli.runs.manifest import LOCK, MANIFEST
from restorecli.runs.ray import connection, driver, probes
from restorecli.runs.ray.worker import _with_half_the_memory
from restorecli.weights import CheckpointFile, ChosenModel

ray = pytest.importorskip("ray", reason="needs restorecli[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.cluster
TESTS = Path(__file__).parent
PATHS = os.pathsep.join([str(TESTS / "faulty_workers"), str(TESTS.parent)])


@pytest.fixture(scope="module")
def nodes():
    """Three nodes with one CPU each; the first one is the driver's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS)
        patch.setenv("RAY_worker_niceness", "0")
        yield from three_nodes()


def three_nodes():
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def pictures(folder, count, name="{}.png", side=64):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        values = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name.format(i))
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in {MANIFEST, LOCK}}


@pytest.fixture
def on_ray(cli, nodes):
    """`restore derain … --engine ray` on the cluster."""
    return lambda *arguments: cli(
        "derain", *arguments, "--engine", "ray", "--ray-address", nodes.address
    )


def test_rows_and_pixels_are_those_of_one_process(cli, on_ray, tmp_path):
    source = pictures(tmp_path / "in", 5)
    (source / "broken.png").write_bytes(b"\x89PNG but no more")
    (source / "a.txt").write_text("no picture")
    alone = cli("derain", source, "-o", tmp_path / "one", "--json", "--threads", 1)
    many = on_ray(source, "-o", tmp_path / "many", "--json", "--report", tmp_path / "r.jsonl")
    assert alone.exit_code == many.exit_code == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    told = ("name", "status", "error", "exit_code", "height_px", "exact", "strip_rows", "notes")

    def facts(lines):
        return [tuple(map(str, (row[key] for key in told))) for row in lines[:-1]]

    assert sorted(facts(alone.lines)) == sorted(facts(many.lines))
    report = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [name for name in map(str, contents(source)) if name.endswith(".png")]
    in_order = [line.split('"name": "')[1].split('"')[0] for line in report[:-1]]
    assert in_order == [row["name"] for row in alone.lines[:-1]]
    summary = many.lines[-1]
    assert summary["counts"] == alone.lines[-1]["counts"]
    assert summary["settings"]["options"] == {"engine": "ray", "actors": "3", "threads": "1"}
    assert summary["notes"] == ["1 other file(s) ignored"]


def test_a_chain_gives_the_bytes_and_scores_of_one_process(cli, nodes, tmp_path):
    source = pictures(tmp_path / "in", 3)
    run = ("run", source, "--task", "derain,denoise", "--strength", "derain=0.5", "--json",
           "--ref", pictures(tmp_path / "ref", 3))  # fmt: skip
    alone = cli(*run, "-o", tmp_path / "one", "--threads", 1)
    many = cli(*run, "-o", tmp_path / "many", "--engine", "ray", "--ray-address", nodes.address)
    assert alone.exit_code == many.exit_code == 0, many.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    scores = [sorted(str(row["steps"]) for row in end.lines[:-1]) for end in (alone, many)]
    assert scores[0] == scores[1]
    assert "psnr" in scores[0][0]


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_node_that_is_killed_loses_nothing(cli, on_ray, nodes, tmp_path, kills):
    source = pictures(tmp_path / "in", 60)
    assert cli("derain", source, "-o", tmp_path / "whole", "--threads", 1).exit_code == 0
    whole = contents(tmp_path / "whole")
    rng = random.Random(0)
    for round_ in range(kills):
        out = tmp_path / f"out{round_}"
        victim, after = rng.choice(list(nodes.worker_nodes)), rng.randrange(1, 40)

        def kill(out=out, victim=victim, after=after):
            while len(list(out.glob("*.png"))) < after:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))
            nodes.remove_node(victim, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        outcome = on_ray(source, "-o", out, "--json")
        killer.join(300)
        assert outcome.exit_code == 0, outcome.stderr
        assert contents(out) == whole
        names = [row["name"] for row in outcome.lines[:-1]]
        assert sorted(names) == sorted(str(path) for path in source.iterdir())
        assert outcome.lines[-1]["counts"] == {"ok": 60, "failed": 0, "skipped": 0}
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()


def test_a_picture_that_kills_its_worker_is_named_and_the_others_are_done(cli, on_ray, tmp_path):
    source = pictures(tmp_path / "in", 6)
    whole = tmp_path / "whole"
    assert (
        cli("derain", pictures(source, 1, "once.png"), "-o", whole, "--threads", 1).exit_code == 0
    )
    pictures(source, 1, "deadly.png")
    outcome = on_ray(source, "-o", tmp_path / "out", "--json")
    assert outcome.exit_code == 1
    assert contents(tmp_path / "out") == contents(whole)
    rows = {Path(row["name"]).stem: row for row in outcome.lines[:-1]}
    assert len(rows) == len(outcome.lines) - 1 == 8
    assert "died 2 times" in rows["deadly"]["error"]
    assert rows["deadly"]["exit_code"] == DeviceError.exit_code
    assert "half of the memory" in rows["once"]["notes"][0]
    assert [stem for stem, row in rows.items() if row["error"] or row["notes"]] == sorted(
        ["deadly", "once"], key=list(rows).index
    )
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_a_picture_that_kills_its_worker_is_found_among_quick_ones(cli, on_ray, tmp_path):
    source = pictures(tmp_path / "in", 20, "a{}.png", side=16)
    pictures(source, 20, "z{}.png", side=16)
    whole = tmp_path / "whole"
    assert cli("derain", source, "-o", whole, "--threads", 1).exit_code == 0
    pictures(source, 1, "deadly.png", side=16)
    outcome = on_ray(source, "-o", tmp_path / "out", "--json")
    assert outcome.exit_code == 1
    assert contents(tmp_path / "out") == contents(whole)
    rows = {Path(row["name"]).stem: row for row in outcome.lines[:-1]}
    assert len(rows) == len(outcome.lines) - 1 == 41
    assert "died 2 times" in rows.pop("deadly")["error"]
    assert not any(row["error"] or row["notes"] for row in rows.values())


def test_the_second_try_has_half_of_the_memory(random_weights):
    model = ChosenModel(file=CheckpointFile(random_weights))
    engine = prepare_chain([EngineSettings(model=model, device="cpu")])
    held = psutil.Process().memory_info().rss
    limited = engine.limited(lambda step: held + 400_000_000)
    half = _with_half_the_memory(limited).engines[0].max_bytes
    assert half == pytest.approx(held + 200_000_000, abs=20_000_000)
    free = psutil.virtual_memory().available
    assert _with_half_the_memory(engine).engines[0].max_bytes == pytest.approx(
        held + free / 2, rel=0.1
    )


@pytest.fixture
def start(tmp_path):
    """The command as a process, which does not outlive the test."""
    begun = []

    def start(*arguments):
        command = [sys.executable, "-m", "restorecli", "derain", *arguments, "--engine", "ray"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def wait_for_results(process, folder, count):
    while len(list(folder.glob("[!.]*"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_driver_that_is_killed_goes_on_by_its_manifest(cli, start, on_ray, nodes, tmp_path):
    source, out = pictures(tmp_path / "in", 30), tmp_path / "out"
    assert cli("derain", source, "-o", tmp_path / "whole", "--threads", 1).exit_code == 0
    killed = start("in", "-o", "out", "--ray-address", nodes.address)
    wait_for_results(killed, out, 5)
    killed.kill()
    killed.communicate()
    time.sleep(1)  # for Ray to end the actors of a driver that is gone
    done = {name for name in contents(out) if not name.startswith(".")}
    times = {name: (out / name).stat().st_mtime_ns for name in done}
    outcome = on_ray(source, "-o", out, "--resume", "--json")
    assert outcome.exit_code == 0
    assert outcome.lines[-1]["counts"] == {"ok": 30 - len(done), "failed": 0, "skipped": len(done)}
    assert {name: (out / name).stat().st_mtime_ns for name in done} == times
    assert {n: c for n, c in contents(out).items() if n[0] != "."} == contents(tmp_path / "whole")
    again = on_ray(source, "-o", out, "--resume", "--json")
    assert again.lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 30}


@pytest.mark.parametrize("to_group", [False, True])
def test_ctrl_c_ends_the_run_and_the_ray_it_started(start, tmp_path, to_group):
    pictures(tmp_path / "in", 60)
    process = start("in", "-o", "out", "--json")
    wait_for_results(process, tmp_path / "out", 2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in children)
    if to_group:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert b"Interrupted" in stderr
    assert b"Traceback" not in stderr
    assert b'"interrupted": true' in stdout.splitlines()[-1]
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone
    assert not alive
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_without_ray_one_sentence(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = cli("derain", pictures(tmp_path / "in", 1), "--engine", "ray")
    assert outcome.exit_code == UsageError.exit_code
    assert re.search(r"pip install \S*\bray\b", outcome.stderr)
    assert not (tmp_path / "in.derain").exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--engine", "ray", "--ray-address", "127.0.0.1:9"], 5, "No Ray cluster answers"),
        (["--engine", "ray", "--ray-address", "nonsense"], 2, "is not an address"),
        (["--engine", "ray", "--threads", "2"], 2, "--cpus-per-actor"),
        (["--engine", "ray", "--device", "cuda:1"], 2, "each actor its own"),
        (["--actors", "2"], 2, "--engine ray only"),
    ],
)
def test_options_that_cannot_work(cli, tmp_path, options, code, said):
    outcome = cli("derain", pictures(tmp_path / "in", 1), *options)
    assert outcome.exit_code == code
    assert said in outcome.stderr
    assert not (tmp_path / "in.derain").exists()


def test_standard_streams_are_refused(cli, tmp_path):
    source = pictures(tmp_path / "in", 1) / "0.png"
    outcome = cli("derain", source, "-o", "-", "--engine", "ray")
    assert outcome.exit_code == UsageError.exit_code
    assert "works on files" in outcome.stderr


def test_a_cluster_with_another_ray_is_refused(on_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "1.0.0")
    outcome = on_ray(pictures(tmp_path / "in", 1))
    assert outcome.exit_code == DeviceError.exit_code
    assert "other versions" in outcome.stderr
    assert "1.0.0" in outcome.stderr


def test_a_worker_with_another_torch_is_refused(on_ray, tmp_path, monkeypatch):
    here = driver.versions()
    monkeypatch.setattr(driver, "versions", lambda: {**here, "torch": "1.0"})
    outcome = on_ray(pictures(tmp_path / "in", 1))
    assert outcome.exit_code == DeviceError.exit_code
    assert "here it is 1.0" in outcome.stderr
    assert not (tmp_path / "in.derain").exists()


def test_more_actors_than_there_is_room_for(on_ray, tmp_path):
    outcome = on_ray(pictures(tmp_path / "in", 1), "--actors", 9)
    assert outcome.exit_code == DeviceError.exit_code
    assert "room for 3" in outcome.stderr


@pytest.mark.parametrize(
    ("source", "out", "error"),
    [("driver-only", "out", InputError), ("in", "driver-only", OutputError)],
)
def test_folders_that_only_the_driver_has(on_ray, tmp_path, source, out, error):
    outcome = on_ray(pictures(tmp_path / source, 2), "-o", tmp_path / out)
    assert outcome.exit_code == error.exit_code
    assert "does not see" in outcome.stderr
    assert "driver-only" in outcome.stderr
    assert not (tmp_path / out).exists()


def test_a_network_that_only_the_driver_has(on_ray, tmp_path):
    source = pictures(tmp_path / "in", 1)
    outcome = on_ray(source, "--weights", tmp_path / "nowhere.safetensors")
    assert outcome.exit_code == 4
    assert "nowhere.safetensors" in outcome.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write")
def test_a_folder_that_a_worker_cannot_write():
    readable = Path("/proc/self/status")
    with pytest.raises(OutputError, match=r"The worker on n1 cannot write /proc/self"):
        probes.Probes(inputs=[], written=[readable], created=[]).check("n1")


def test_probes_leave_nothing_behind(tmp_path):
    item = Item(source=tmp_path / "a.png", target=tmp_path / "new" / "b" / "a.png")
    written = probes.Probes.write([item])
    assert len(list((tmp_path / "new" / "b").iterdir())) == 1
    written.remove()
    assert not (tmp_path / "new" / "b").exists()


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


VISIT = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    print(len(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=60)))
except AuthenticationError:
    print("refused")
"""


def visit(address, **token):
    """What a process of somebody else gets from the server that can run anything: its keys."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    visited = subprocess.run(
        [sys.executable, "-c", VISIT, address],
        capture_output=True, text=True, timeout=120, env=environment | token,
    )  # fmt: skip
    return visited.stdout.strip() or visited.stderr


def test_a_ray_of_our_own_is_for_us_alone(start, tmp_path, monkeypatch):
    """It listens on the loopback only, and refuses whoever has not its token."""
    ours, others = "a" * 64, "b" * 64
    monkeypatch.setenv("RAY_AUTH_TOKEN", ours)
    pictures(tmp_path / "in", 60, side=200)
    process = start("in", "-o", "out", "--actors", "1")
    wait_for_results(process, tmp_path / "out", 1)
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    listening = [
        (each.name(), found.laddr)
        for each in family
        for found in each.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert {address.ip for _, address in listening} <= LOOPBACK
    port = next(address.port for name, address in listening if name == "gcs_server")
    server = f"127.0.0.1:{port}"
    assert visit(server) == "refused"
    assert visit(server, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=others) == "refused"
    assert int(visit(server, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=ours)) > 0
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130


def test_a_ray_of_our_own_has_a_token_that_nobody_knows(monkeypatch):
    for name in connection.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with connection._closed_to_others():
        assert os.environ["RAY_AUTH_MODE"] == "token"
        token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    code = "from restorecli.runs.ray import connection; print(connection.OWN_TOKEN)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() not in {token, ""}
