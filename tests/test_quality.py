"""What the default networks must do from any side, and must not do to good pictures."""

import numpy as np
import pytest
import skimage.data

import restorecli
from restorecli.degradations.kinds import degraded
from restorecli.scoring.metrics import psnr, stains
from restorecli.weights import registry

HARMLESS = ("derain", "desnow", "denoise", "deblur", "defocus")
ALL = (*HARMLESS, "dehaze", "lowlight")
LOWEST_DB = 32.0
LARGEST_MOTTLE, LARGEST_TINT = 1.0, 3.0


@pytest.fixture(scope="module")
def network():
    """The default network of a task, loaded once."""
    loaded = {}

    def load(task):
        if task not in loaded:
            loaded[task] = restorecli.load(registry().default(task).id, device="cpu")
        return loaded[task]

    return load


def levels(picture):
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def photograph(name, side_px=192):
    whole = getattr(skimage.data, name)()
    top, left = ((side - side_px) // 2 for side in whole.shape[:2])
    return np.ascontiguousarray(whole[top : top + side_px, left : left + side_px])


def landscape():
    """A smooth bright sky over textured ground, in thin haze: uint8 (160, 208, 3)."""
    rng = np.random.default_rng(5)
    rows = np.linspace(0, 1, 160)[:, None, None]
    sky = np.array([0.80, 0.85, 0.90]) + 0.06 * rows + np.zeros((160, 208, 1))
    texture = np.kron(rng.uniform(0, 0.5, (40, 52)), np.ones((4, 4)))[..., None]
    ground = (np.array([0.25, 0.3, 0.1]) + texture) * 0.7 + 0.25
    picture = np.where(rows < 0.6, sky, ground)
    return levels(picture + rng.normal(0, 0.3 / 255, picture.shape))


def gain_db(engine, degraded_levels, clean):
    restored = restorecli.restore_image(degraded_levels, engine)
    return psnr(restored, clean, data_range=255) - psnr(degraded_levels, clean, data_range=255)


def test_rain_is_removed_from_whichever_side_it_falls(network):
    upright = turned = 0.0
    clean = photograph("coffee", 128)
    for seed in range(1, 7):
        rainy = levels(degraded("rain", clean.astype(np.float32) / np.float32(255), seed))
        upright += gain_db(network("derain"), rainy, clean)
        sideways = [np.ascontiguousarray(np.rot90(p)) for p in (rainy, clean)]
        turned += gain_db(network("derain"), *sideways)
    assert upright > 6 * 3
    assert turned >= 0.8 * upright


@pytest.mark.parametrize("task", HARMLESS)
def test_a_good_photograph_comes_back(task, network):
    for name in ("coffee", "chelsea", "rocket"):
        good = photograph(name)
        restored = restorecli.restore_image(good, network(task))
        assert psnr(restored, good, data_range=255) >= LOWEST_DB, name


def faded(good):
    """No blacks and no whites, as in an old print, which looks like a veil of snow."""
    return levels(0.22 + 0.6 * good / 255)


def behind_blinds(good):
    """Bright slats over half of the picture, which look like rain from the side."""
    slats = good.copy()
    slats[np.arange(len(good)) // 6 % 2 == 0] = 225, 222, 210
    return slats


@pytest.mark.parametrize("task", HARMLESS)
@pytest.mark.parametrize("made", [faded, behind_blinds])
def test_what_only_looks_degraded_comes_back(task, made, network):
    for name in ("chelsea", "rocket"):
        good = made(photograph(name, 128))
        restored = restorecli.restore_image(good, network(task))
        assert psnr(restored, good, data_range=255) >= LOWEST_DB, name


@pytest.mark.parametrize("task", ALL)
def test_a_sky_stays_clean(task, network):
    picture = landscape()
    found = stains(picture, restorecli.restore_image(picture, network(task)))
    assert found.smooth_share > 0.3
    assert found.mottle <= LARGEST_MOTTLE
    if task != "lowlight":  # which takes a landscape by day for one that is to be brightened
        assert found.tint <= LARGEST_TINT


def test_haze_is_taken_from_a_sky_without_a_line_at_the_edge(network):
    picture = landscape()
    restored = restorecli.restore_image(picture, network("dehaze"))
    change = (restored.astype(float) - picture)[30:80]  # rows of the sky
    for edge, inside in ((change[:, :2], change[:, 20:24]), (change[:, -2:], change[:, -24:-20])):
        assert np.abs(edge.mean((0, 1)) - inside.mean((0, 1))).max() < 1
    assert stains(picture, restored).mottle < 0.2
