from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from restorecli.degradations.rain import MAP_PX, Rain, streak_map
from restorecli.degradations.snow import Snow
from restorecli.networks.loss import balanced, loss_of, root_mean_squares_of
from tests.conftest import TINY
from training import ablation, export, pack, tasks
from training import train as trainer
from training.data import Batches, load_pairs, load_photographs, random_crop

CPU = torch.device("cpu")
RECIPE = trainer.Recipe(task="derain", steps=8, seed=4, patch_px=16, batch=2, warmup_steps=2)


@pytest.fixture(scope="module")
def rain():
    return Rain(maps=3)


@pytest.fixture
def photographs(tmp_path, picture):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(picture(64 + i, 80, seed=i)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def tiny_task(monkeypatch, rain):
    task = tasks.Task(degradation=lambda: rain, network="hint", options=TINY)
    monkeypatch.setitem(tasks.TASKS, "derain", task)


def losses_of(out):
    with (out / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def batches_of(photographs, task=None, pairs=None, *, seed=4, patch_px=16, size=2):
    task = task or tasks.TASKS["derain"]
    found = load_photographs(photographs)
    return Batches(found, task, seed, pairs, patch_px=patch_px, size=size)


def run(out, photographs, *, steps, resume=False, stop_at=None):
    recipe = replace(RECIPE, steps=steps)
    batches = batches_of(photographs)
    training = trainer.Training(recipe, CPU)
    if resume:
        training.load(out)
    losses = []
    while training.step < (stop_at or steps):
        losses.append(training.advance(*batches[training.step]).item())
    training.save(out)
    return losses, training.average.module.state_dict()


def test_the_same_seed_gives_the_same_losses_and_an_interruption_changes_nothing(
    tmp_path, photographs, tiny_task
):
    straight, weights = run(tmp_path / "a.pt", photographs, steps=8)
    again, _ = run(tmp_path / "b.pt", photographs, steps=8)
    first, _ = run(tmp_path / "c.pt", photographs, steps=8, stop_at=3)
    second, resumed = run(tmp_path / "c.pt", photographs, steps=8, resume=True)
    assert straight == again == first + second
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)


def test_the_loop_writes_checkpoint_log_and_curve(tmp_path, photographs, tiny_task):
    out = tmp_path / "run"
    recipe = replace(RECIPE, steps=50, batch=1)
    training = trainer.train(recipe, trainer.Run(out=out, photos=(photographs,), device=CPU))
    assert training.step == 50
    assert [step for step, _ in losses_of(out)] == ["50"]
    assert {p.name for p in out.iterdir()} == {
        "checkpoint.pt", "curve.png", "log.csv", "recipe.json",
    }  # fmt: skip


def test_training_learns_on_a_single_batch(photographs, tiny_task):
    recipe = replace(RECIPE, steps=60, learning_rate=3e-3)
    training = trainer.Training(recipe, CPU)
    degraded, clean = batches_of(photographs, patch_px=24, size=4)[1]
    losses = [training.advance(degraded, clean).item() for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_learning_rate_warms_up_stays_and_ends_low():
    recipe = trainer.Recipe(task="derain", steps=1000)
    rates = [trainer.learning_rate_at(step, recipe) for step in range(1001)]
    assert rates[0] == pytest.approx(recipe.learning_rate / recipe.warmup_steps)
    assert rates[300] == recipe.learning_rate
    assert rates[650] == pytest.approx(recipe.learning_rate / 2, rel=0.01)
    assert rates[-1] == pytest.approx(recipe.final_learning_rate)


def test_the_loss_of_a_constant_shift_is_known():
    clean = torch.full((1, 3, 8, 8), 0.25)
    shifted = clean + 0.5
    # L1 is 0.5; of the orthonormal amplitudes only the mean differs, by 0.5·8, among 8·5 bins
    expected = 0.5 + 0.03 * (0.5 * 8) / 40
    assert loss_of(shifted, clean, 0.03).item() == pytest.approx(expected, rel=1e-5)
    assert loss_of(clean, clean, 0.03).item() == 0


def test_squared_errors_that_are_balanced_have_the_gradient_of_psnr():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 3, 8, 8, generator=generator)
    restored = clean + torch.tensor([0.01, 0.1, 0.3])[:, None, None, None] * torch.randn(
        clean.shape, generator=generator
    )
    restored.requires_grad_()
    balanced(root_mean_squares_of(restored, clean), 0).backward()
    found = restored.grad.clone()
    restored.grad = None
    torch.log10((restored - clean).square().mean((1, 2, 3))).sum().backward()
    scale = found.norm() / restored.grad.norm()
    torch.testing.assert_close(found, scale * restored.grad, rtol=1e-2, atol=1e-6)


def test_a_balanced_loss_counts_every_picture_by_the_inverse_of_its_own():
    losses = torch.tensor([0.1, 0.3], requires_grad=True)
    loss = balanced(losses, 0.1)  # weights 5 and 2.5
    assert loss.item() == pytest.approx((5 * 0.1 + 2.5 * 0.3) / 7.5)
    loss.backward()
    assert losses.grad.tolist() == pytest.approx([5 / 7.5, 2.5 / 7.5])


def test_what_is_spared_is_the_same_before_and_after_and_not_always_the_photograph(photographs):
    task = replace(tasks.TASKS["desnow"], clean_share=1.0)
    plain = replace(task, spared=None)
    batches, others = (batches_of(photographs, t, patch_px=32, size=40) for t in (task, plain))
    degraded, clean = batches[0]
    assert torch.equal(degraded, clean)
    changed = (clean != others[0][1]).flatten(1).any(1).float().mean()
    assert 0.2 < changed < 0.9


def test_rain_only_brightens_and_stays_in_range(rain):
    clean = np.full((40, 56, 3), 0.4, np.float32)
    rng = np.random.default_rng(0)
    samples = [rain(clean, rng) for _ in range(300)]
    assert all(s.shape == clean.shape and s.dtype == np.float32 for s in samples)
    assert min(s.min() for s in samples) >= 0.4 - 1e-6
    assert max(s.max() for s in samples) <= 1


def test_streaks_are_gray_repeatable_and_of_many_strengths():
    maps = [streak_map((96, 96), np.random.default_rng(seed)) for seed in range(12)]
    again = streak_map((96, 96), np.random.default_rng(3))
    np.testing.assert_array_equal(maps[3], again)
    means = sorted(float(m.mean()) for m in maps)
    assert means[0] < 0.02 < 0.06 < means[-1]


def test_a_patch_larger_than_the_rain_maps_is_refused(rain):
    too_large = np.zeros((MAP_PX + 1, 8, 3), np.float32)
    with pytest.raises(ValueError, match="rain maps"):
        rain(too_large, np.random.default_rng(1))


def test_crops_have_the_size_asked_for_whatever_the_photograph(picture):
    for seed in range(30):
        crop = random_crop(picture(40, 200), 32, np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3)
        assert crop.dtype == np.float32
        assert 0 <= crop.min() <= crop.max() <= 1


def test_samples_of_every_task_repeat_by_step_and_stay_in_range(photographs, picture):
    for name, task in tasks.TASKS.items():
        made = replace(task, degradation=small_maps(name, task))
        batches = batches_of(photographs, made, seed=5, patch_px=32)
        degraded, clean = batches[3]
        again = batches[3]
        assert degraded.shape == clean.shape == (2, 3, 32, 32), name
        assert degraded.dtype == clean.dtype == torch.uint8, name
        assert torch.equal(degraded, again[0]), name
        assert torch.equal(clean, again[1]), name
        assert not torch.equal(degraded, batches[4][0]), name


def test_some_samples_are_left_as_they_are(photographs):
    task = tasks.Task(degradation=lambda: lambda clean, rng: clean * 0, clean_share=0.3)
    batches = batches_of(photographs, task, seed=1)
    pairs = [batches.pair(step, 0) for step in range(300)]
    untouched = np.mean([np.array_equal(degraded, clean) for degraded, clean in pairs])
    assert untouched == pytest.approx(0.3, abs=0.07)


def small_maps(name, task):
    makers = {"derain": lambda: Rain(maps=2), "desnow": lambda: Snow(maps=2)}
    return makers.get(name, task.degradation)


def test_the_start_is_what_training_goes_on_from(photographs, tiny_task):
    first = trainer.Training(RECIPE, CPU)
    start = {key: value.half() for key, value in first.network.state_dict().items()}
    second = trainer.Training(replace(RECIPE, seed=9), CPU, start)
    for key, value in second.average.module.state_dict().items():
        assert torch.equal(value, start[key].float()), key


def test_real_pairs_are_cropped_alike(tmp_path, photographs, picture):
    for folder, offset in (("input", 0), ("target", 40)):
        (tmp_path / folder).mkdir()
        for i in range(2):
            levels = picture(48, 64, seed=i) // 2 + np.uint8(offset)
            Image.fromarray(levels).save(tmp_path / folder / f"{i}.png")
    task = replace(tasks.TASKS["lowlight"], pair_share=1.0)
    batches = batches_of(photographs, task, load_pairs(tmp_path), patch_px=32, size=4)
    degraded, clean = (part.float() for part in batches[0])
    np.testing.assert_allclose((clean - degraded).numpy(), 40, atol=2)


def test_pairs_that_do_not_correspond_are_refused(tmp_path, picture):
    for folder, height in (("input", 40), ("target", 48)):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture(height, 64)).save(tmp_path / folder / "a.png")
    with pytest.raises(SystemExit, match="must correspond"):
        load_pairs(tmp_path)


def test_export_refuses_weights_that_float16_spoils(tmp_path, photographs, tiny_task, monkeypatch):
    monkeypatch.setattr(export, "SAMPLE_PX", 24)
    monkeypatch.setattr(export, "LARGEST_LOSS_DB", 0.5)  # random weights change more
    training = trainer.Training(RECIPE, CPU)
    checkpoint, file = tmp_path / "checkpoint.pt", tmp_path / "out.safetensors"
    arguments = ["export", str(checkpoint), "--photos", str(photographs), "-o", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    training.save(checkpoint)
    export.main()
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["task"] == "derain"
        assert opened.metadata()["data"].startswith("3 photographs")
        key = "output.weight"
        stored = opened.get_tensor(key)
    assert stored.dtype == torch.float16
    assert torch.equal(stored, training.average.module.state_dict()[key].half())

    file.unlink()
    with torch.no_grad():
        training.average.module.output.weight.mul_(1e6)  # beyond float16
    training.save(checkpoint)
    with pytest.raises(SystemExit, match="float16"):
        export.main()
    assert not file.exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "--float32"])
    export.main()
    assert torch.equal(load_file(file)[key], training.average.module.state_dict()[key])


def test_a_bundled_network_that_is_exported_again_keeps_its_options():
    bundled = Path(export.__file__).parents[1] / "restorecli/weights/bundled"
    assert "sort_channels" not in export.stated_options(bundled / "hint-dehaze-packed.safetensors")
    assert not export.stated_options(bundled / "hint-derain-packed.safetensors")["sort_channels"]
    assert export.stated_options(Path("checkpoint.pt")) == {}


def test_a_mean_lies_between_start_and_result_and_kernels_can_be_those_of_bfloat16():
    trained = {"a.weight": torch.tensor([[1.0, 3.001]]), "a.bias": torch.tensor([3.001])}
    start = {"a.weight": torch.tensor([[2.0, 3.001]]), "a.bias": torch.tensor([1.001])}
    mean = export.mean_of(trained, start, 0.25)
    torch.testing.assert_close(mean["a.weight"], torch.tensor([[1.25, 3.001]]))
    torch.testing.assert_close(mean["a.bias"], torch.tensor([2.501]))
    half = export.of_bfloat16(mean["a.weight"].half())
    assert half.dtype == torch.float16
    assert half.tolist() == [[1.25, 3.0]]
    assert torch.equal(export.of_bfloat16(mean["a.bias"]), mean["a.bias"])


@pytest.mark.parametrize(
    ("network", "options"), [("hint", {"sort_channels": False}), ("restormer", {})]
)
def test_a_start_that_sorts_its_channels_is_refused(tmp_path, network, options):
    file, weights = tmp_path / "start.safetensors", {"a": torch.zeros(1)}
    save_file(weights, file, {"network": network, "options": json.dumps(options)})
    trainer.refuse_other_order(file, tasks.HINT)
    save_file(weights, file, {"network": "hint", "options": "{}"})
    with pytest.raises(SystemExit, match="one order first"):
        trainer.refuse_other_order(file, tasks.HINT)
    trainer.refuse_other_order(file, tasks.COMPACT)


@pytest.mark.parametrize("name", tasks.NETWORKS)
def test_a_recipe_can_be_tried_with_another_network(name):
    task = tasks.task_of("deblur", name)
    assert trainer.build(task.network, task.options)
    assert task.clean_share == tasks.TASKS["deblur"].clean_share
    assert tasks.task_of("deblur") is tasks.TASKS["deblur"]


def test_multiply_adds_are_those_of_the_convolutions():
    network = torch.nn.Conv2d(3, 7, 3, padding=1, bias=False)
    assert ablation.multiply_adds(network) == pytest.approx(256**2 * 3 * 7 * 9 / 1e9)


def test_workers_make_the_same_batches_in_order(photographs, tiny_task):
    batches = batches_of(photographs)
    ahead = list(batches.ahead(range(3, 6), 1, pin=False))
    for step, (degraded, clean) in zip(range(3, 6), ahead, strict=True):
        assert torch.equal(degraded, batches[step][0])
        assert torch.equal(clean, batches[step][1])


def test_a_pack_holds_pictures_but_those_left_out(tmp_path, photographs):
    file = tmp_path / "pack.safetensors"
    folders = [("clean", photographs), ("rain/input", photographs)]
    number = pack.write(folders, file, quality=90, long_side_px=0, left_out=frozenset({"1.png"}))
    assert number == 4
    assert [p.shape for p in load_photographs(Path(f"{file}:clean"))] == [(64, 80, 3), (66, 80, 3)]
    kept = load_photographs(Path(f"{file}:rain/input"))
    np.testing.assert_array_equal(kept[1], load_photographs(photographs)[2])  # bytes as they were


def test_the_time_bound_lowers_the_rate_and_ends_the_run(tmp_path, photographs, tiny_task):
    recipe = replace(RECIPE, steps=10**6)
    run = trainer.Run(out=tmp_path / "run", photos=(photographs,), device=CPU, minutes=0.05)
    training = trainer.train(recipe, run)
    assert 0 < training.step < 10**6
    assert trainer.learning_rate_at(10, recipe, 0.65) == pytest.approx(5e-4, rel=0.01)


BARE = """
import sys
from importlib.metadata import packages_distributions
kept = {
    "torch", "torchgen", "functorch", "numpy", "cv2", "safetensors", "restorecli",
    "typing_extensions", "sympy", "mpmath", "packaging", "filelock", "fsspec", "jinja2",
    "markupsafe", "networkx", "setuptools", "pkg_resources",  # which torch brings with it
}
for name in set(packages_distributions()) - kept:
    sys.modules[name] = None  # cannot be imported
import torch
from training import train
from training.tasks import TASKS
from pathlib import Path
sys.modules.pop("matplotlib", None)
for task in TASKS:
    recipe = train.Recipe(task=task, steps=3, patch_px=32, batch=1, warmup_steps=1)
    out = Path(sys.argv[2]) / task
    run = train.Run(out=out, photos=(Path(sys.argv[1]),), device=torch.device("cpu"))
    print(task, train.train(recipe, run).step)
"""


def test_every_task_trains_where_nothing_but_torch_numpy_opencv_and_safetensors_is(
    tmp_path, photographs
):
    command = [sys.executable, "-c", BARE, str(photographs), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for task in tasks.TASKS:
        assert f"{task} 3" in done.stdout
