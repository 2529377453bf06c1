"""-v and --log: why things are done as they are, to people and into a file."""

from __future__ import annotations

import logging

import pytest
import torch

from restorecli.engine import devices, engine, why
from restorecli.networks import NETWORKS
from tests.conftest import TINY
from tests.test_plan import planned

CPU = torch.device("cpu")


@pytest.fixture
def small(cli, photo_file, identity_weights):
    """Restore one small picture with a network that changes nothing."""

    def run(*options, name="a.png"):
        return cli("derain", photo_file(name), "--weights", identity_weights, *options)

    return run


def test_v_says_why_and_silence_is_the_rule(small):
    plain = small(name="a.png").stderr
    said = small("-v", "--threads", "1", name="b.png").stderr
    for start in (
        "Network ",
        "Device ",
        "Precision ",
        "Threads 1: --threads asks for it.",
        "40×48",
    ):
        assert sum(line.startswith(start) for line in said.splitlines()) == 1, start
        assert not any(line.startswith(start) for line in plain.splitlines())
    assert "b.derain.png" in said
    assert logging.getLogger("restorecli").handlers[1:] == []


def test_why_a_tile_was_chosen(small):
    said = small("-v", "--tile", "16", "--overlap", "8").stderr
    assert "tiles of 16 px that share 8, in strips of" in said
    assert "--tile 16 asks for them" in said


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (1.0, "the whole picture, in strips of 8 rows: it needs"),
        (0.5, "higher strips do not fit"),
        (0.1, "the whole picture does not fit; it needs"),
        (0.0001, "Less was not possible."),
    ],
)
def test_a_plan_says_why_it_is_so(part, words):
    network = NETWORKS["hint"](**TINY)
    whole = planned(network, (4000, 4000), 2**40)
    assert (whole.exact, whole.strip_rows) == (True, 8)
    rows = 16 if part == 0.5 else 8
    size = (4000, 4000) if rows == 8 else (1500, 1500)
    whole = planned(network, size, 2**40)
    least = planned(network, size, 2**40).needed_bytes
    if part == 0.5:
        low = next(
            p
            for share in range(99, 0, -1)
            if (p := planned(network, size, int(least / 0.6 * share / 100))) != whole
        )
        assert low.exact
        assert words in low.why
        return
    chosen = planned(network, size, int(least / 0.6 * part) + 1)
    assert words in chosen.why
    assert chosen.exact is (part == 1.0)


def test_a_bound_on_memory_is_named():
    network = NETWORKS["hint"](**TINY)
    chosen = planned(network, (300, 200), 2**40, max_bytes=2**31)
    assert "that --max-memory 2,147 MB leaves" in chosen.why


@pytest.mark.parametrize(
    ("asked", "fast", "is_close", "words"),
    [
        ("fp16", True, True, "fp16: it was asked for"),
        ("auto", True, True, "bf16: cpu is faster in it"),
        ("auto", True, False, "fp32: the network was not found"),
        ("auto", False, True, "fp32: cpu has no faster"),
    ],
)
def test_precision_says_what_it_is(monkeypatch, asked, fast, is_close, words):
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda device: fast)
    chosen = devices.choose_precision(asked, CPU, half_is_close=is_close)
    said = why.precision_text(asked, CPU, fast=fast, is_close=is_close)
    assert words in said
    name = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[chosen]
    assert said.startswith(f"Precision {name}")


def test_devices_say_why():
    assert "--device cpu asks for it" in why.device_text("cpu", CPU)
    assert "neither a CUDA device nor Apple's" in why.device_text("auto", CPU)
    assert "Apple's" in why.device_text("auto", torch.device("mps"))


def test_memory_that_ran_out_is_told(small, monkeypatch):
    run, calls = engine.Engine._run, []

    def fails_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        return run(self, *arguments)

    monkeypatch.setattr(engine.Engine, "_run", fails_once)
    said = small("-v").stderr
    assert "Memory ran out: on with the whole picture, in strips of 8 rows." in said


def test_a_log_keeps_all_that_is_said_and_more_is_appended(small, tmp_path):
    log = tmp_path / "run.log"
    assert "Device" not in small("--log", log, "-q").stderr
    text = log.read_text(encoding="utf-8")
    for words in ("$ restore derain", "Device ", "Network ", "done ", "1 restored in"):
        assert text.count(words) == 1, words
    assert all(line[:4].isdigit() and line[19] == "Z" for line in text.splitlines())
    failed = small("--log", log, "--tile", "7", name="b.png")
    assert failed.exit_code == 2
    longer = log.read_text(encoding="utf-8")
    assert longer.startswith(text)
    assert "Error: --tile must be at least 16, got 7." in longer


def test_a_log_shows_no_password(cli, tmp_path):
    log = tmp_path / "run.log"
    refused = cli("derain", "https://someone:secret@host/a.png", "--log", log, "--tile", "7")
    assert refused.exit_code == 2
    text = log.read_text(encoding="utf-8")
    assert "@host/a.png" in text
    assert "secret" not in text


def test_a_log_that_cannot_be_written_is_one_sentence(small, tmp_path):
    outcome = small("--log", tmp_path / "none" / "run.log")
    assert outcome.exit_code == 2
    assert "Cannot write the log" in outcome.stderr
    assert small("--log", tmp_path).exit_code == 2


def test_spectra_say_why_too(cli, photo_file):
    said = cli("spectral", photo_file("a.png", 24, 24), "-v").stderr
    assert "Device cpu" in said
    assert "24×24 pixels: strips of" in said
