"""Measurements that rarely run where they matter: the same calls here, at a tiny size."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks import gpu, strips
from benchmarks.authors import rearranged
from restorecli.networks.strips import restore_by_strips
from restorecli.weights import registry
from restorecli.weights.checkpoint import load_model

WHAT_A_LENT_MACHINE_LACKS = ("typer", "rich", "psutil", "PIL", "natsort", "cv2", "pydantic")


def test_the_measurement_for_a_gpu_makes_its_calls_on_the_processor(monkeypatch, tmp_path):
    out = tmp_path / "gpu.txt"
    options = ["--device", "cpu", "--networks", "hint-compact", "--sizes", "16x16", "16x32"]
    options += ["--repeats", "1", "--part-pixels", "64", "--no-compile", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    monkeypatch.setattr(gpu, "STRIP_PIXELS", (128, 2**20))
    gpu.main()
    lines = out.read_text(encoding="utf-8").splitlines()
    assert "CUDA has not been run" in lines[0]
    rows = {line[24:52].strip(): line[52:].split() for line in lines if " 16x32 " in line}
    assert {
        "plain fp32",
        "plain fp16 channels-last",
        "strips 1024k px bf16",
        "graph, strips fp32",
    } <= set(rows)
    for way, (first_s, median_ms, _min, _pace, _times, _peak, difference) in rows.items():
        assert float(first_s) >= 0
        assert float(median_ms) > 0
        assert float(difference) < 1, way  # HINT's order may flip with random weights
    steps = [line for line in lines if line.strip().startswith(("depth-wise", "1x1", "gelu"))]
    assert len(steps) == 2 * 6
    assert not any("Error" in line for line in lines)


def test_what_does_not_fit_into_the_time_is_named(monkeypatch, tmp_path):
    bench_of = {}

    def timed(bench, make, x):
        bench_of["bench"] = bench
        return 0.0, [1e6], 0, x  # a thousand seconds

    monkeypatch.setattr(gpu, "timed", timed)
    out = tmp_path / "gpu.txt"
    options = ["--device", "cpu", "--networks", "hint-compact", "--sizes", "16x16", "16x32"]
    options += ["--no-parts", "--no-compile", "--seconds", "100", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    gpu.main()
    last = out.read_text(encoding="utf-8").splitlines()[-2]
    assert "16x32 no time for: plain fp32; plain fp32 channels-last" in last


def test_the_measurement_for_a_gpu_needs_torch_and_the_networks_only():
    code = "import sys, benchmarks.gpu\n"
    code += f"print([m for m in {WHAT_A_LENT_MACHINE_LACKS!r} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("pattern", "lengths", "expected"),
    [
        ("b c h w -> b (h w) c", {}, lambda x: x.flatten(2).transpose(1, 2)),
        (
            "b (h w) c d -> b c h w d",
            {"h": 2, "w": 3},
            lambda x: x.unflatten(1, (2, 3)).permute(0, 3, 1, 2, 4),
        ),
        (
            "b (head c) h w -> b head c (h w)",
            {"head": 2},
            lambda x: x.flatten(2).unflatten(1, (2, -1)),
        ),
        ("a b c d -> (a b) (c d)", {}, lambda x: x.flatten(2).flatten(0, 1)),
    ],
)
def test_rearranged_follows_its_pattern(pattern, lengths, expected):
    x = torch.rand(2, 6, 4, 5)
    assert torch.equal(rearranged(x, pattern, **lengths), expected(x))


def test_a_bundled_network_can_be_measured(monkeypatch):
    argv = ["strips", "--model", "glmha-derain-compact", "--strip-rows", "8"]
    monkeypatch.setattr(sys, "argv", argv)
    way, plane = "strips 8 float32", (40, 48)
    evaluate, formula = strips.evaluation(way, plane, strips.parsed_options())
    network = load_model(registry()["glmha-derain-compact"], None).network
    x = torch.rand(1, 3, *plane)
    assert torch.equal(evaluate(x), restore_by_strips(network, x, strip_rows=8))
    assert formula > 0
    monkeypatch.setattr(sys, "argv", [*argv, "--authors", "somewhere"])
    with pytest.raises(SystemExit):
        strips.parsed_options()
