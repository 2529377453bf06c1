"""The Python interface gives what the command gives."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import restorecli
from restorecli.errors import InputError, OutputError, WeightsError
from tests.conftest import pixels_of

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"
EXAMPLE = Path(__file__).parents[1] / "examples" / "python_api.py"


def test_an_image_equals_what_the_command_writes(cli, photo_file, random_weights, monkeypatch):
    photo = photo_file("a.png", 40, 56)
    cli("derain", photo, "--weights", random_weights)
    expected = pixels_of(photo.with_name("a.derain.png"))
    engine = restorecli.load(random_weights, device="cpu")
    np.testing.assert_array_equal(restorecli.restore_image(pixels_of(photo), engine), expected)
    by_path = restorecli.restore_image(pixels_of(photo), str(random_weights), device="cpu")
    np.testing.assert_array_equal(by_path, expected)
    assert not np.array_equal(expected, pixels_of(photo))


def test_gray_stays_gray_and_other_arrays_are_refused(picture):
    gray = picture(24, 32)[..., 0]
    assert restorecli.restore_image(gray, "hint-derain-packed", device="cpu").shape == (24, 32)
    for wrong in (gray / 255.0, picture(8, 8)[..., :2], gray[None, None], gray[:0]):
        with pytest.raises(ValueError, match="must be uint8, uint16 or float32 of shape"):
            restorecli.restore_image(wrong, "hint-derain-packed")
    for value in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="from 0 to 1, got"):
            restorecli.restore_image(np.full((8, 8), value, np.float32), "hint-derain-packed")
    with pytest.raises(TypeError, match=r"got builtins\.list"):
        restorecli.restore_image([[1, 2]], "hint-derain-packed")


@pytest.fixture
def engine(random_weights):
    return restorecli.load(random_weights, device="cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_keep_their_type_and_are_not_written_to(engine, picture, dtype):
    most = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[dtype]
    before = (picture(24, 20) / 255 * most).astype(dtype)
    before.flags.writeable = False
    after = restorecli.restore_image(before, engine)
    assert (after.dtype, after.shape) == (before.dtype, before.shape)
    assert not np.array_equal(after, before)
    turned = restorecli.restore_image(np.asfortranarray(before), engine)
    np.testing.assert_array_equal(turned, after)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"])
def test_pictures_of_pillow_come_back_as_such_with_what_they_know(engine, picture, mode):
    if mode == "I;16":
        image = Image.fromarray(picture(16, 24)[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(picture(16, 24)).convert(mode)
    image.info["dpi"] = (72, 72)
    restored = restorecli.restore_image(image, engine)
    assert restored.mode == {"P": "RGB", "1": "L"}.get(mode, mode)
    assert restored.size == image.size
    assert restored.info["dpi"] == (72, 72)
    seen = np.asarray(image.convert("RGB")) if mode == "RGB" else None
    if seen is not None:
        expected = restorecli.restore_image(seen, engine)
        np.testing.assert_array_equal(np.asarray(restored), expected)
    with pytest.raises(ValueError, match="mode CMYK is not restored"):
        restorecli.restore_image(image.convert("RGB").convert("CMYK"), engine)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_bytes_and_paths_give_the_file_that_the_command_writes(
    cli, photo_file, random_weights, engine, name
):
    path = photo_file(name, 24, 32, dpi=(72, 72))
    assert cli("derain", path, "--weights", random_weights).exit_code == 0
    expected = path.with_name(f"a.derain{path.suffix}").read_bytes()
    assert restorecli.restore_image(path.read_bytes(), engine) == expected
    made = restorecli.restore_image(path, engine)
    assert made == path.with_name(f"a.restored{path.suffix}")
    assert made.read_bytes() == expected
    with pytest.raises(OutputError, match="exists already"):
        restorecli.restore_image(str(path), engine)
    again = restorecli.restore_image(str(path), engine, output=made, overwrite=True, strength=0.0)
    assert again.read_bytes() != expected
    with pytest.raises(InputError, match="the bytes"):
        restorecli.restore_image(b"no picture", engine)
    with pytest.raises(ValueError, match="with a path only"):
        restorecli.restore_image(path.read_bytes(), engine, output="x.png")


def test_networks_in_a_row_strength_and_ensemble_are_those_of_the_command(
    cli, photo_file, random_weights
):
    path = photo_file("a.png", 16, 24)
    each = f"derain={random_weights},denoise={random_weights}"
    run = ("run", path, "--task", "derain,denoise", "--weights", each)
    assert cli(*run, "--strength", "0.5", "--ensemble").exit_code == 0
    expected = pixels_of(path.with_name("a.derain-denoise.png"))
    shares = []
    made = restorecli.restore_image(
        pixels_of(path), [random_weights, random_weights], device="cpu",
        strength=0.5, ensemble=True, progress=shares.append,
    )  # fmt: skip
    np.testing.assert_array_equal(made, expected)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        restorecli.restore_image(pixels_of(path), random_weights, strength=2)


def test_a_slider_shows_both_pictures_in_a_frame_of_its_own(picture, photo_file, tmp_path):
    before, path = picture(24, 1600), photo_file("a.png", 24, 1600)
    for after in (before.astype(np.uint16) * 257, before / np.float32(255), path.read_bytes(), path,
                  Image.fromarray(before).convert("RGBA")):  # fmt: skip
        shown = restorecli.slider(before, after, labels=("<b>", "after"))
        assert shown.html.count("data:image/webp;base64,") == 2
        assert "&lt;b&gt;" in shown.html
        assert "<b>" not in shown.html
        frame = shown._repr_html_()
        assert frame.startswith("<iframe srcdoc=")
        assert 'sandbox="allow-scripts"' in frame
        assert shown.html not in frame  # escaped
    first = re.search(r'base64,([^"]+)', shown.html)[1]
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (1280, 19)
    with pytest.raises(ValueError, match="one size, got 1600×24 and 8×8"):
        restorecli.slider(before, picture(8, 8))


def test_the_notebook_runs_from_beginning_to_end():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # as it lies in the repository
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own event loop
        nbclient.NotebookClient(
            notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
        ).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("iframe" in str(out.get("data", {}).get("text/html")) for out in shown) == 2
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in shown)


def test_an_unknown_model_is_answered_with_the_nearest_one():
    with pytest.raises(WeightsError, match="Did you mean 'hint-derain-packed'"):
        restorecli.load("hint-derain-compacd")


def test_the_example_runs_and_importing_the_package_loads_nothing_heavy(photo_file, tmp_path):
    source, target = photo_file("in.png", 24, 40), tmp_path / "out.png"
    root = EXAMPLE.parents[1]
    subprocess.run(
        [sys.executable, "-m", "examples.python_api", source, target], cwd=root, check=True
    )
    with Image.open(target) as made:
        assert made.size == (40, 24)
    code = "import sys, restorecli; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
