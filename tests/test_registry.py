from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from restorecli.errors import WeightsError
from restorecli.networks import NETWORKS
from restorecli.weights import SPECTRAL_TASKS, TASKS, choose_model, read_registry, registry
from restorecli.weights.checkpoint import load_model, load_spectral_model
from tests.conftest import TINY, save_weights

GOOD = """
[some-model]
network = "hint"
tasks = ["derain"]
source = "hf://owner/name/file.pth@aa2667c79d766b67da2c1489c7ce5f0423bae798"
size_bytes = 10
sha256 = "225ed9acf80b3527d7080e5182918f642a23a78ef8593ad700b7e924bd660681"
licence = "MIT"
citation = "Somebody, 2025"
protocol = "whole image"
"""


def setting(key):
    values = f'{key}, scoring = "rain", source = "Somebody"'
    return f'protocol = "crops"\npublished_setting = {{ {values} }}'


def test_a_good_entry_is_read_and_its_address_follows_from_the_source():
    entry = read_registry(GOOD)["some-model"]
    assert entry.url.endswith(
        "/owner/name/resolve/aa2667c79d766b67da2c1489c7ce5f0423bae798/file.pth"
    )
    assert entry.file_name == "file.pth"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("size_bytes", "sise_bytes", "unknown key 'sise_bytes'"),
        ('licence = "MIT"\n', "", "missing key 'licence'"),
        ('network = "hint"', 'network = "hynt"', "network"),
        ('tasks = ["derain"]', 'tasks = ["derane"]', "tasks"),
        ('tasks = ["derain"]', "tasks = []", "tasks"),
        ("size_bytes = 10", "size_bytes = -1", "size_bytes"),
        ("225ed9", "XYZed9", "sha256"),
        ("hf://owner", "ftp://owner", "source 'ftp://"),
        ("@aa2667c79d766b67da2c1489c7ce5f0423bae798", "@main", "source"),
        ('licence = "MIT"', 'licence = "MIT"\ndefault_for = ["dehaze"]', "'dehaze'"),
        ("sha256", "#sha256", "without sha256 the note must say"),
        ('protocol = "whole image"', setting("tile_px = 100"), "published_setting.tile_px"),
        ('protocol = "whole image"', setting("overlap_px = 8"), "smaller than tile_px"),
    ],
)
def test_a_malformed_entry_is_refused_with_its_name_and_key(old, new, complaint):
    assert old in GOOD
    with pytest.raises(WeightsError, match=re.escape(complaint)) as refused:
        read_registry(GOOD.replace(old, new))
    assert "[some-model]" in refused.value.message


def test_a_file_that_is_not_toml_is_refused():
    with pytest.raises(WeightsError, match="not TOML"):
        read_registry("[broken")


def test_two_defaults_for_one_task_are_refused():
    one = GOOD + 'default_for = ["derain"]\n'
    with pytest.raises(WeightsError, match="already the default for derain"):
        read_registry(one + one.replace("some-model", "other-model"))


def test_every_task_has_a_network_in_the_package():
    for task in (*TASKS, "spectral"):
        assert registry().default(task).is_bundled
    with pytest.raises(WeightsError, match="No network for derain"):
        read_registry(GOOD).default("derain")


def test_an_unknown_id_is_answered_with_the_nearest_one():
    with pytest.raises(WeightsError) as refused:
        registry()["restormer-derane"]
    assert "Did you mean 'restormer-derain'?" in refused.value.hint


def test_every_bundled_file_is_the_one_described_and_fits_its_network():
    bundled = [entry for entry in registry().values() if entry.is_bundled]
    assert bundled
    for entry in bundled:
        data = entry.path.read_bytes()
        assert len(data) == entry.size_bytes
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        if not set(entry.tasks) & set(SPECTRAL_TASKS):
            assert load_model(entry, None).channels == 3
        else:
            assert load_spectral_model(entry, None).sha256 == entry.sha256


def test_every_entry_builds_its_network_and_every_task_has_one():
    for entry in registry().values():
        with torch.device("meta"):
            NETWORKS[entry.network](**entry.options)
    assert {task for entry in registry().values() for task in entry.tasks} == {
        *TASKS,
        *SPECTRAL_TASKS,
    }


def test_published_sizes_and_hashes_are_the_known_ones():
    known = registry()
    assert known["restormer-derain"].size_bytes == 104_700_429
    assert known["restormer-deblur"].sha256.startswith("194e38fb5b607c9d")
    assert known["restormer-denoise-gray-blind"].sha256 is None
    assert known["hint-derain"].source == "import:Rain100L_HINT.pth"


def tiny(**options):
    torch.manual_seed(3)
    return NETWORKS["hint"](**{**TINY, **options})


def test_own_weights_say_themselves_what_they_are(tmp_path):
    network = tiny()
    path = save_weights(tmp_path / "own.safetensors", network, "hint", TINY)
    loaded = load_model(None, path)
    assert loaded.id == "own.safetensors"
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("top", ["params", "params_ema", "state_dict", None])
def test_published_layouts_of_torch_files_are_read(tmp_path, top, prefix):
    entry = read_registry(GOOD)["some-model"].model_copy(update={"options": TINY})
    network = tiny()
    state = {prefix + key: value for key, value in network.state_dict().items()}
    path = tmp_path / "published.pth"
    torch.save({top: state} if top else state, path)
    loaded = load_model(entry, path)
    assert torch.equal(loaded.network.output.weight, network.output.weight)


class Trap:
    """What a hostile checkpoint looks like: unpickled, it would make a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def bad_files(tmp_path):
    state = tiny().state_dict()
    trap = tmp_path / "trap"
    torch.save({"params": Trap(str(trap))}, tmp_path / "hostile.pth")
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    good = save_weights(tmp_path / "good.safetensors", tiny(), "hint", TINY).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(good[: len(good) // 2])
    (tmp_path / "header.safetensors").write_bytes((10**12).to_bytes(8, "little") + good[8:])
    torch.save({"params": 3}, tmp_path / "number.pth")
    torch.save({"params": {**state, "extra": state["output.weight"]}}, tmp_path / "extra.pth")
    torch.save(
        {"params": {k: v for k, v in state.items() if "output" not in k}}, tmp_path / "few.pth"
    )
    torch.save(
        {"params": {**state, "output.weight": state["output.weight"] / 0}}, tmp_path / "nan.pth"
    )
    torch.save({"params": {**state, "output.weight": torch.ones(3, 16, 3)}}, tmp_path / "shape.pth")
    torch.save({"params": {**state, "output.weight": "text"}}, tmp_path / "type.pth")
    return trap


def test_bad_files_are_refused_and_never_run(tmp_path):
    trap = bad_files(tmp_path)
    entry = read_registry(GOOD)["some-model"].model_copy(update={"options": TINY})
    files = [p for p in tmp_path.iterdir() if p.name != "good.safetensors"]
    assert len(files) == 11
    for path in [*files, tmp_path / "missing.pth", tmp_path]:
        with pytest.raises(WeightsError) as refused:
            load_model(entry, path)
        assert path.name in refused.value.message
    assert not trap.exists()


def test_an_altered_bundled_file_is_found_before_use(tmp_path, monkeypatch):
    entry = next(entry for entry in registry().values() if entry.is_bundled)
    data = bytearray(entry.path.read_bytes())
    data[-1] ^= 1
    (tmp_path / entry.file_name).write_bytes(bytes(data))
    monkeypatch.setattr(sys.modules["restorecli.weights.registry"], "BUNDLED", tmp_path)
    with pytest.raises(WeightsError, match="sha256"):
        load_model(entry, None)


def test_options_inside_a_file_must_fit(tmp_path):
    path = save_weights(tmp_path / "odd.safetensors", tiny(), "hint", {"dimension": 3})
    with pytest.raises(WeightsError, match="do not fit hint"):
        load_model(None, path)
    path = save_weights(tmp_path / "odd2.safetensors", tiny(), "vgg", {})
    with pytest.raises(WeightsError, match="unknown network 'vgg'"):
        load_model(None, path)


def test_models_list_and_show_print_every_entry(cli):
    listed = cli("models", "list")
    assert listed.exit_code == 0
    assert all(entry_id in listed.stdout for entry_id in registry())
    shown = cli("models", "show", "restormer-deblur")
    assert "194e38fb" in shown.stdout.replace("\n", "")
    data = json.loads(cli("models", "list", "--json").stdout)
    assert [model["id"] for model in data["models"]] == list(registry())


def test_an_unknown_model_ends_with_the_weights_code_and_a_suggestion(cli, photo_file):
    outcome = cli("derain", photo_file(), "--model", "restormer-derane")
    assert outcome.exit_code == WeightsError.exit_code
    assert "Did you mean 'restormer-derain'?" in outcome.stderr
    assert outcome.stdout == ""
    assert [p.name for p in Path(photo_file()).parent.iterdir()] == ["photo.png"]


def test_a_former_id_finds_what_replaced_it():
    shipped = registry()
    assert shipped["hint-denoise-real-compact"] is shipped["hint-denoise-packed"]
    assert "hint-denoise-real-compact" in shipped
    assert "hint-denoise-real-compact" not in list(shipped)
    assert choose_model("derain", "hint-derain-compact").former_id == "hint-derain-compact"
    assert choose_model("derain", "hint-derain-packed").former_id == ""


def test_a_run_tells_of_a_former_id(cli, picture, tmp_path):
    Image.fromarray(picture(24, 24)).save(tmp_path / "a.png")
    result = cli("derain", str(tmp_path / "a.png"), "--model", "hint-derain-compact")
    assert result.exit_code == 0
    assert "hint-derain-compact was replaced by hint-derain-packed" in result.stderr
