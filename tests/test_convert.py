"""Restormer to GLMHA-Restormer: exact where nothing is left out, near where something is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from restorecli.conversion.closed_form import reduced, refit, strongest
from restorecli.conversion.crops import DEGRADE
from restorecli.errors import InputError, UsageError, WeightsError
from restorecli.networks import NETWORKS
from restorecli.networks.strips import restore_by_strips
from restorecli.weights import TASKS, registry
from restorecli.weights.checkpoint import load_model
from restorecli.weights.install import import_file

OPTIONS = {
    "dim": 16,
    "num_blocks": [1, 1, 1, 1],
    "num_refinement_blocks": 1,
    "heads": [1, 2, 2, 4],
    "LayerNorm_type": "BiasFree",
}


def teacher_of(**changes):
    """A Restormer whose attention matters: large weights, sharp softmax."""
    torch.manual_seed(0)
    network = NETWORKS["restormer"](**{**OPTIONS, **changes}).eval()
    for name, value in network.named_parameters():
        value.data = torch.full_like(value, 3) if "temperature" in name else value.data * 1.5
    return network


def pictures(count=6, channels=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(1, channels, 32, 40, generator=draw) for _ in range(count)]


def error(student, teacher):
    with torch.inference_mode():
        return sum(float((student(x) - teacher(x)).square().mean()) for x in pictures(3, seed=9))


@pytest.mark.parametrize("preset", ["text", "table"])
@pytest.mark.parametrize("bias", [False, True])
def test_with_nothing_left_out_the_result_equals_the_teacher_bit_for_bit(preset, bias):
    teacher = teacher_of(bias=bias)
    options = {**OPTIONS, "bias": bias}
    student, rows = reduced(teacher, options, pictures(2), preset=preset, ratio=0.0)
    refit(teacher, student, rows, pictures(2))
    for x in (*pictures(2, seed=3), torch.rand(1, 3, 17, 23)):
        with torch.inference_mode():
            assert torch.equal(student(x), teacher(x))
        by_strips = [restore_by_strips(n, x, strip_rows=8) for n in (student, teacher)]
        torch.testing.assert_close(*by_strips, rtol=0, atol=1e-5)


@pytest.mark.parametrize("preset", ["text", "table"])
def test_energy_is_better_than_chance_and_the_refit_better_still(preset):
    teacher = teacher_of()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    chance, _ = reduced(teacher, OPTIONS, [], preset=preset, choice="random")
    student, rows = reduced(teacher, OPTIONS, pictures(), preset=preset)
    by_energy = error(student, teacher)
    refit(teacher, student, rows, pictures())
    assert error(chance, teacher) > by_energy > 1.5 * error(student, teacher)
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert not any(module._forward_hooks for module in teacher.modules())


def test_the_refit_is_the_least_squares_solution():
    """On one block whose features are known, against a solver of another kind."""
    teacher = teacher_of()
    student, rows = reduced(teacher, OPTIONS, pictures())
    inputs, targets = [], []
    block = teacher.refinement[0].attn

    def note(module, arguments, out):
        inputs.append(arguments[0])
        targets.append(out[0].flatten(1).double())

    hook = block.register_forward_hook(note)
    with torch.inference_mode():
        for x in pictures():
            teacher(x)
    hook.remove()
    own = student.refinement[0].attn
    original = block.project_out.weight.detach().flatten(1).double()
    plain = own.project_out.weight.data.clone()
    own.project_out.weight.data = torch.eye(len(plain))[..., None, None]
    with torch.inference_mode():
        mixed = [own(x)[0].flatten(1).double() for x in inputs]
    own.project_out.weight.data = plain
    y, t = torch.cat(mixed, 1), torch.cat(targets, 1)
    ridge = math.sqrt(1e-3 * float((y @ y.mT).diagonal().mean()))
    design = torch.cat([y.mT, ridge * torch.eye(len(y), dtype=torch.float64)])
    wanted = torch.cat([t.mT, ridge * original.mT])
    expected = torch.linalg.lstsq(design, wanted).solution.mT
    refit(teacher, student, rows, pictures())
    actual = own.project_out.weight.flatten(1).double()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_rows_stay_in_their_order():
    energy = torch.tensor([[5.0, 1.0, 9.0, 3.0], [0.0, 4.0, 2.0, 8.0]])
    assert strongest(energy, 2).tolist() == [[0, 2], [1, 3]]


def test_conversion_is_repeatable():
    teacher = teacher_of()
    both = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        student, rows = reduced(teacher, OPTIONS, pictures(3))
        refit(teacher, student, rows, pictures(3))
        both.append(student.state_dict())
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_degradation_that_changes_a_picture(task):
    clean = np.random.default_rng(0).random((40, 48, 3)).astype(np.float32)
    spoiled = DEGRADE[task](clean, np.random.default_rng(1), 1.0)
    assert spoiled.shape == clean.shape
    assert spoiled.dtype == np.float32
    assert float(np.abs(spoiled - clean).mean()) > 0.001


@pytest.fixture
def restormer(tmp_path):
    path = tmp_path / "own.pth"
    torch.save({"params": teacher_of().state_dict()}, path)
    return import_file(path, task="denoise", entry_id="restormer-own")


@pytest.fixture
def small_crops(monkeypatch):
    from restorecli.conversion import crops

    monkeypatch.setattr(crops, "CROP_PX", 32)
    monkeypatch.setattr(crops, "CALIBRATION_CROPS", 4)
    monkeypatch.setattr(crops, "HELD_OUT_CROPS", 2)


def test_the_command_converts_scores_and_installs(cli, restormer, small_crops, photo_file):
    outcome = cli("models", "convert", "restormer-own", "--finetune", "0.02", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    made = outcome.lines[0]
    assert made["id"] == "glmha-own-text-0.5"
    teacher, rows, fitted, tuned = made["scores"]
    assert teacher["against_teacher"] is None
    assert fitted["against_teacher"] > rows["against_teacher"]
    assert tuned["stage"] == "+ fine-tune"
    assert fitted["parameters"] < teacher["parameters"]
    entry = registry()[made["id"]]
    assert (entry.network, entry.tasks) == ("glmha_restormer", ("denoise",))
    assert restormer.sha256 in entry.note
    assert cli("denoise", photo_file(), "--model", made["id"]).exit_code == 0
    again = cli("models", "convert", "restormer-own", "--ratio", "0", "--preset", "table")
    assert again.stdout.count("equal") == 3
    converted = load_model(registry()["glmha-own-table-0"], None).network
    x = torch.rand(1, 3, 24, 24)
    with torch.inference_mode():
        assert torch.equal(converted(x), load_model(restormer, None).network(x))


def test_a_folder_calibrates_and_a_bad_one_is_refused(
    cli, restormer, small_crops, photo_file, tmp_path, picture
):
    for i in range(3):
        photo_file(f"clean/{i}.png", 40, 48)
    made = cli("models", "convert", "restormer-own", "--calibrate", tmp_path / "clean")
    assert made.exit_code == 0, made.stderr
    assert "pictures in clean" in registry()["glmha-own-text-0.5"].note
    (tmp_path / "gray").mkdir()
    Image.fromarray(picture(9, 9)[..., 0]).save(tmp_path / "gray" / "a.png")
    for folder in ("gray", "nowhere"):
        refused = cli("models", "convert", "restormer-own", "--calibrate", tmp_path / folder)
        assert refused.exit_code == InputError.exit_code


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["hint-derain-packed"], WeightsError.exit_code, "cannot be converted"),
        (["restormer-derain"], WeightsError.exit_code, "`restore models download"),
        (["restormer-defocus-dual-pixel"], WeightsError.exit_code, "cannot be converted"),
        (["restormer-own", "--ratio", "1"], UsageError.exit_code, "--ratio"),
        (["restormer-own", "--preset", "csa"], UsageError.exit_code, "--preset"),
        (["restormer-own", "--to", "hint"], UsageError.exit_code, "--to"),
        (["restormer-own", "--id", "hint-derain"], WeightsError.exit_code, "another --id"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    cli, restormer, small_crops, arguments, code, sentence
):
    outcome = cli("models", "convert", *arguments)
    assert outcome.exit_code == code
    assert sentence in outcome.stderr


def test_the_benchmark_prints_every_row(tmp_path, small_crops, monkeypatch, capsys):
    from benchmarks import conversion

    path = tmp_path / "own.pth"
    torch.save({"params": teacher_of().state_dict()}, path)
    few = ["--ratios", "0.5", "--steps", "2", "--side", "16", "--runs", "1"]
    monkeypatch.setattr("sys.argv", ["conversion", str(path), *few])
    conversion.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[3:]]
    steps = [line[2] for line in lines]
    assert steps == [
        "teacher",
        *2
        * [
            "attention removed",
            "random rows",
            "energy rows",
            "+ refit",
            "+ 2 steps of fine-tuning",
        ],
    ]
    assert lines[0][3] == "equal"
    for first in (1, 6):
        scores = [float(line[3]) for line in lines[first : first + 4]]
        assert scores[3] > max(scores[1:3])
