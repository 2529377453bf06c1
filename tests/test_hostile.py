"""Files that are broken or lie: no hang, no flood of memory, no traceback, no false success."""

from __future__ import annotations

import json
import random
import sys

import pytest

from tests.conftest import run_command
from tests.fuzzing import fuzz, mutated, originals


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.long)])
def test_the_reader_survives_mutated_files(tmp_path, capsys, count):
    wrong, endings, slowest_s, peak_bytes = fuzz(tmp_path, count)
    with capsys.disabled():
        sys.stdout.write(f" {endings}, slowest {slowest_s:.2f} s, peak {peak_bytes / 1e6:.0f} MB ")
    assert wrong == {}
    assert endings["read"] > count / 100  # mutations that reach the decoders
    assert endings["refused"] > count / 100


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.long)])
def test_the_command_survives_mutated_files(tmp_path, identity_weights, count):
    files = originals(tmp_path / "whole")
    rng = random.Random(1)
    (tmp_path / "in").mkdir()
    names = sorted(files)
    for i in range(count):
        name = names[i % len(names)]
        (tmp_path / "in" / f"{i}{name[name.rindex('.') :]}").write_bytes(mutated(files[name], rng))
    ended = run_command(
        "derain", "in", "-o", "out", "--weights", identity_weights, "--json", cwd=tmp_path
    )
    assert "Traceback" not in ended.stderr
    *rows, summary = [json.loads(line) for line in ended.stdout.splitlines()]
    failed = {row["input"] for row in rows if row["status"] == "failed"}
    done = {row["output"] for row in rows if row["status"] == "ok"}
    assert failed
    assert ended.returncode == (1 if done else 3)
    assert all((tmp_path / output).stat().st_size for output in done)
    assert len(list((tmp_path / "out").glob("[!.]*"))) == len(done)
    assert len(rows) + sum(int(n.split()[0]) for n in summary["notes"]) == count
