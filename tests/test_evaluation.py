"""The evaluation: its sets, the classic methods, and the figures that it prints."""

import json
import sys

import cv2
import numpy as np
import pytest
import safetensors.torch
import skimage.data
from PIL import Image

from restorecli.degradations.blur import convolve
from restorecli.degradations.common import from_linear, to_linear
from restorecli.scoring.metrics import PROTOCOLS, score
from restorecli.scoring.metrics.smooth import Stains
from training import classic, evaluate, quality, runner, testsets
from training.judging import judge, kept_figures
from training.stained import RealRow
from training.testsets import SETS, Pair, aperture_of, digest, made, pairs_of, spread

SNOW, DEFOCUS = (
    next(s for s in SETS if s.name == f"CBSD68, synthetic {kind}") for kind in ("snow", "defocus")
)


def psnr(one, other):
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float(-10 * np.log10(error / 255**2))


@pytest.fixture(scope="module")
def photograph():
    return np.ascontiguousarray(skimage.data.astronaut()[100:260, 150:350])


@pytest.fixture
def eval_folder(tmp_path, picture):
    """A folder of test sets with one pair for rain and one clean photograph."""
    for folder, seed in (("input", 0), ("target", 1)):
        (tmp_path / "eval" / "derain" / folder).mkdir(parents=True)
        (tmp_path / "eval" / "derain_heavy" / folder).mkdir(parents=True)
        levels = picture(32, 40, seed=seed)
        for name in ("derain", "derain_heavy"):
            Image.fromarray(levels).save(tmp_path / "eval" / name / folder / "a.png")
    (tmp_path / "eval" / "denoise_gauss" / "target").mkdir(parents=True)
    Image.fromarray(picture(32, 40)).save(tmp_path / "eval" / "denoise_gauss" / "target" / "a.png")
    return tmp_path / "eval"


def mean_of_blocks(levels):
    """Means of 8×8 squares of the mean over the channels."""
    plane = levels.mean(axis=2)
    rows, columns = (side // 8 for side in plane.shape)
    return plane[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean(axis=(1, 3))


PINNED = {  # mean change, its spread over squares of 8 px, and that of one square
    "CBSD68, synthetic snow": (2.19997, 6.00431, 0.0),
    "CBSD68, synthetic defocus": (2.85706, 7.81070, 5.66667),
    "CBSD68, nearly sharp": (0.28099, 0.47578, 0.02083),
}


@pytest.mark.parametrize("name", PINNED)
def test_made_sets_keep_the_pixels_that_figures_were_taken_on(name, photograph):
    chosen = next(s for s in SETS if s.name == name)
    pair = made(chosen, [photograph, np.ascontiguousarray(photograph[::-1])])[1]
    change = mean_of_blocks(pair.degraded) - mean_of_blocks(pair.clean)
    assert (change.mean(), change.std(), change[3, 4]) == pytest.approx(PINNED[name], abs=0.02)


def test_made_sets_are_the_same_every_time_and_noise_is_what_it_says(photograph):
    chosen = next(s for s in SETS if s.name == "CBSD68, σ 25")
    one, two = (made(chosen, [photograph]) for _ in range(2))
    assert digest(one) == digest(two)
    assert digest(one) != digest(made(SNOW, [photograph]))
    assert 15 < np.std(one[0].degraded.astype(float) - one[0].clean) < 25.5


def test_a_turned_set_holds_the_same_pictures_turned(eval_folder):
    upright = pairs_of(SETS[0], eval_folder)
    turned = pairs_of(SETS[0].turned(), eval_folder)
    np.testing.assert_array_equal(np.rot90(upright[0].degraded), turned[0].degraded)
    np.testing.assert_array_equal(np.rot90(upright[0].clean), turned[0].clean)


def test_good_photographs_can_be_named(tmp_path, picture):
    for seed, name in enumerate("abc"):
        Image.fromarray(picture(16, 20, seed=seed)).save(tmp_path / f"{name}.png")
    chosen = testsets.undegraded("derain", str(tmp_path), "free", ["c.png", "a.png", "z.png"])
    found = [pair.clean for pair in pairs_of(chosen, tmp_path)]
    np.testing.assert_array_equal(found, [picture(16, 20, seed=0), picture(16, 20, seed=2)])
    with pytest.raises(SystemExit, match="None of the 1 pictures"):
        pairs_of(testsets.undegraded("derain", str(tmp_path), "free", ["z.png"]), tmp_path)


def test_a_limit_takes_pictures_from_everywhere():
    assert spread(range(68), 4) == [0, 17, 34, 51]
    assert spread(range(3), 4) == [0, 1, 2]


def test_the_kernel_of_a_defocused_picture_is_the_one_it_was_blurred_with():
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    alike = {0: 0, 1: 0}  # pictures whose blur looks like the kernel of this seed, of the next
    for seed in range(16):
        spot = to_linear(DEFOCUS.degrade(point, np.random.default_rng(seed))).mean(axis=2)
        for other in alike:
            kernel = aperture_of(np.random.default_rng(seed + other))
            reach = kernel.shape[0] // 2
            inside = spot[20 - reach : 21 + reach, 20 - reach : 21 + reach]
            alike[other] += np.corrcoef(inside.ravel(), kernel.ravel())[0, 1] > 0.98
    assert alike[0] >= 5  # in half of them a part is in better focus
    assert alike[1] <= 1


def test_the_dark_channel_prior_removes_haze_and_finds_its_light(photograph):
    clean = photograph.astype(np.float32) / np.float32(255)
    depth = np.linspace(0.3, 0.9, clean.shape[0], dtype=np.float32)[:, None, None]
    hazy = clean * depth + np.float32(0.95) * (1 - depth)
    restored = classic.dark_channel_prior(hazy)
    before, after = (float(np.mean((x - clean) ** 2)) for x in (hazy, restored))
    assert after < before / 2


def test_the_exposure_curve_reaches_its_mean_and_keeps_black_and_white():
    rows = np.linspace(0, 1, 64, dtype=np.float32)
    dark = np.repeat((rows**3)[:, None, None], 8, 1).repeat(3, 2)
    curve = classic.exposure_curve(dark)
    assert float((curve @ classic.LUMA).mean()) == pytest.approx(0.45, abs=1e-3)
    assert curve.min() == 0
    assert curve.max() == pytest.approx(1, abs=1e-5)
    assert np.all(np.diff(curve[:, 0, 0]) >= 0)
    bright = np.full((8, 8, 3), 0.8, np.float32)
    np.testing.assert_allclose(classic.exposure_curve(bright), bright, atol=1e-4)  # never darker


@pytest.mark.parametrize("method", [classic.wiener, classic.richardson_lucy])
def test_deconvolution_with_the_true_kernel_sharpens(method, photograph):
    clean = photograph.astype(np.float32) / np.float32(255)
    kernel = np.zeros((9, 9), np.float32)
    kernel[2:5, 3] = kernel[4, 3:7] = 1  # not symmetric: a turned kernel would spoil the picture
    kernel /= kernel.sum()
    soft = from_linear(np.clip(convolve(to_linear(clean), kernel), 0, 1))
    restored = method(soft, kernel)
    inner = (slice(16, -16), slice(16, -16))
    gain = psnr(restored[inner] * 255, clean[inner] * 255) - psnr(
        soft[inner] * 255, clean[inner] * 255
    )
    assert gain > 3


def test_classic_denoisers_are_told_the_noise(photograph):
    sets = [s for s in SETS if s.task == "denoise"]
    pair = made(sets[1], [photograph])[0]
    methods = {m.name: m for m in classic.methods_for(sets[1])}
    assert set(methods) == {"non-local means, true σ 25", "CBM3D, true σ 25"}
    restored = methods["non-local means, true σ 25"](pair)
    assert psnr(restored, pair.clean) > psnr(pair.degraded, pair.clean) + 4
    assert classic.estimated_sigma(pair.degraded / 255) * 255 == pytest.approx(25, rel=0.15)


def test_slow_methods_are_taken_from_the_cache(tmp_path, photograph):
    calls = []

    def slow(picture, pair):
        calls.append(1)
        return 1 - picture

    method = classic.Method(name="slow", apply=slow, slow=True)
    pair = Pair(degraded=photograph, clean=photograph)
    first, again = method(pair, tmp_path / "cache"), method(pair, tmp_path / "cache")
    assert calls == [1]
    np.testing.assert_array_equal(first, 255 - photograph)
    np.testing.assert_array_equal(again, first)
    other = Pair(degraded=photograph[:-1], clean=photograph[:-1])
    assert method(other, tmp_path / "cache").shape == other.clean.shape


def test_a_method_whose_package_is_missing_says_so():
    assert not classic.Method(name="x", apply=lambda p, q: p, package="nonesuch").is_installed
    assert classic.Method(name="x", apply=lambda p, q: p, package="numpy").is_installed


def test_figures_are_those_of_restore_metrics_and_chroma_is_of_the_set(photograph):
    gray = np.repeat(photograph.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, 2)
    protocol = PROTOCOLS["rain"]
    found = judge([photograph, gray], [photograph, photograph], protocol)
    assert found.psnr_db[0] == 99
    expected = score(gray, photograph, protocol)
    assert (found.psnr_db[1], found.ssim[1]) == pytest.approx(tuple(expected.values()))
    assert found.chroma_ratio == pytest.approx(0.5, abs=0.01)
    assert found.delta_e[0] == 0 < found.delta_e[1]


def test_figures_are_kept_and_found_again(tmp_path, photograph):
    calls = []

    def make():
        calls.append(1)
        return judge([photograph // 2], [photograph], PROTOCOLS["rgb"])

    first, again = (kept_figures(tmp_path / "cache", "a key", make) for _ in range(2))
    assert calls == [1]
    assert again.protocol is first.protocol
    assert again.psnr_db == first.psnr_db
    assert again.chroma_ratio == first.chroma_ratio
    kept_figures(tmp_path / "cache", "another", make)
    kept_figures(None, "a key", make)
    assert calls == [1, 1, 1]


def test_one_command_prints_and_writes_every_figure(
    tmp_path, eval_folder, identity_weights, monkeypatch, capsys
):
    file = tmp_path / "figures.json"
    monkeypatch.setattr(evaluate, "defaults", lambda chosen: [])
    arguments = ["derain", "--data", eval_folder, "--weights", f"derain={identity_weights}"]
    arguments += ["--json", file]
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    evaluate.main()
    printed = capsys.readouterr().out
    rows = json.loads(file.read_text(encoding="utf-8"))
    sets = {row["set"] for row in rows}
    assert sets == {
        "Rain12", "Rain12, turned by 90°", "Rain100H, 12 pairs",
        "Rain100H, 12 pairs, turned by 90°", evaluate.CLEAN_NAME,
    }  # fmt: skip
    assert all(name in printed for name in sets)
    network, given = (
        next(r for r in rows if r["method"] == method and r["set"] == "Rain12")
        for method in ("identity", "input")
    )
    assert network["gain_db"] == pytest.approx(0, abs=1e-9)
    assert network["psnr_db"] == pytest.approx(given["psnr_db"])
    clean = next(r for r in rows if r["method"] == "identity" and r["set"] == evaluate.CLEAN_NAME)
    assert clean["lowest_db"] == 99


def test_a_candidate_that_does_not_say_what_it_is_is_told(tmp_path, identity_weights, photo_file):
    mute = tmp_path / "mute.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(identity_weights), mute)
    options = '{"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}'
    found = runner.candidates([], [f"derain={mute}"], [f"derain=hint{options}"])
    levels = cv2.imread(str(photo_file()))[..., ::-1]
    restored = runner.restored("derain", [levels], found["derain"][0], "fp32")
    np.testing.assert_array_equal(restored[0], levels)
    with pytest.raises(SystemExit, match="does not say what it is for"):
        runner.candidates([], [str(mute)], [])
    with pytest.raises(SystemExit, match="expected TASK=NAME"):
        runner.candidates([], [], ["hint{}"])


def test_a_set_is_judged_with_the_network_it_names_besides_the_default():
    chosen = testsets.TestSet(
        task="derain", name="x", protocol="rain", model="glmha-derain-compact"
    )
    assert [n.label for n in runner.defaults(chosen)][1:] == ["glmha-derain-compact"]
    assert len(runner.defaults("derain")) == 1


def test_stains_are_called_stains():
    clean = Stains(smooth_share=0.3, mottle=0.2, roughness=4.0, tint=0.5)
    stained = Stains(smooth_share=0.3, mottle=2.0, roughness=0.0, tint=0.5)
    lines = [
        RealRow(task="dehaze", method="m", kind="network", picture="a.jpg", found=found).line
        for found in (clean, stained)
    ]
    assert ["STAINED" in line for line in lines] == [False, True]


ROWS = [
    {
        "set": "Rain12", "task": "derain", "method": method, "kind": kind, "pictures": 12,
        "psnr_db": psnr_db, "ssim": 0.9, "delta_e": 1.5, "chroma_ratio": 0.97, "gain_db": gain,
    }
    for method, kind, psnr_db, gain in (
        ("hint", "network", 34.5, 4.5), ("median", "classic", 26.0, -4.0)
    )
]  # fmt: skip
REAL = {"set": "real", "task": "dehaze", "method": "hint", "kind": "network", "picture": "a.jpg"}


def test_the_page_shows_the_best_in_bold_and_what_was_stained():
    rows = [
        *ROWS,
        {"set": "Rain12", "task": "derain", "method": "CBM3D", "kind": "classic", "note": "absent"},
        {**REAL, "mottle": 0.4, "tint": None, "clean": True},
        {**REAL, "mottle": 2.5, "tint": 1.0, "clean": False},
    ]
    text = quality.page(rows, [], ["derain"])
    assert "|  | `hint` | **34.50** | +4.50 | 0.9000 | 1.50 | 0.97 |" in text
    assert "|  | median | 26.00 | -4.00 |" in text
    assert "CBM3D |" not in text
    assert "| dehaze | `hint` | 2.5 | 1.0 | 1 of 2 |" in text
    assert "(pictures/sheet-derain.jpg)" in text


def test_every_licensed_photograph_is_shown_with_its_credit(tmp_path, picture, monkeypatch):
    real, output = tmp_path / "real", tmp_path / "pictures"
    real.mkdir()
    output.mkdir()
    for name in ("fog.jpg", "night.jpg", "unknown.jpg"):
        Image.fromarray(picture(30, 40)).save(real / name)
    (real / "manifest.csv").write_text(
        "file,source,path,licence,note\n"
        "fog.jpg,somebody/backgrounds@1234,x,CC0-1.0,cloud/fog\n"
        'night.jpg,nobody/art@99,y,"CC-BY-4.0 (A. Person)",dark street\n'
        "unknown.jpg,nobody/art@99,z,,haze\n"
    )
    monkeypatch.setattr(quality, "restored", lambda task, pictures, *_: list(pictures))
    shown = {s.file: s for s in quality.gallery(real, output)}
    assert set(shown) == {p.name for p in output.iterdir()} == {"real-fog.jpg", "real-night.jpg"}
    assert shown["real-fog.jpg"].task == "dehaze"
    assert shown["real-night.jpg"].credit == "nobody/art, CC-BY-4.0 (A. Person)"
    with Image.open(output / "real-fog.jpg") as sheet:
        assert sheet.size == (3 * quality.CELL_PX, quality.CELL_PX * 3 // 4)
    page = quality.page([], list(shown.values()), [])
    assert all(s.credit in page for s in shown.values())
