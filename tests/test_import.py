"""Files of the user's own: read safely, recognised by their tensors, recorded, and found again."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from restorecli.conversion import crops
from restorecli.errors import OutputError, UsageError, WeightsError
from restorecli.networks import NETWORKS
from restorecli.weights import choice, reading, registry, store
from restorecli.weights.checkpoint import load_model
from restorecli.weights.install import import_file
from restorecli.weights.places import registry_path
from restorecli.weights.store import is_unchanged, keep
from tests.conftest import TINY, save_weights

KINDS = {
    "hint": ("hint", TINY),
    "restormer": ("restormer", {**TINY, "heads": [1, 2, 2, 4]}),
    "bias-free": ("restormer", {**TINY, "LayerNorm_type": "BiasFree", "bias": True}),
    "gray": ("restormer", {**TINY, "inp_channels": 1, "out_channels": 1}),
    "dual-pixel": ("restormer", {**TINY, "inp_channels": 6, "dual_pixel_task": True}),
    "wider": (
        "restormer",
        {
            "dim": 24,
            "num_blocks": [2, 1, 3, 1],
            "num_refinement_blocks": 2,
            "ffn_expansion_factor": 2.0,
        },
    ),
    "glmha-text": ("glmha_restormer", {**TINY, "heads": [1, 1, 1, 1], "ratio": 0.25}),
    "glmha-table": ("glmha_restormer", {**TINY, "heads": [1, 1, 2, 2], "preset": "table"}),
}


def network_of(kind):
    torch.manual_seed(5)
    name, options = KINDS[kind]
    return name, NETWORKS[name](**options)


def equal(loaded, network):
    expected = network.state_dict()
    actual = loaded.network.state_dict()
    return set(actual) == set(expected) and all(torch.equal(actual[k], expected[k]) for k in actual)


@pytest.mark.parametrize("kind", KINDS)
def test_network_and_options_are_found_by_keys_and_shapes(tmp_path, kind):
    name, network = network_of(kind)
    path = tmp_path / "some file.pth"
    torch.save({"params": network.state_dict()}, path)
    entry = import_file(path, task="denoise")
    assert entry.network == name
    assert equal(load_model(registry()[entry.id], None), network)
    assert equal(load_model(None, path), network)  # --weights: the same, without recording


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    _, network = network_of("hint")
    network = network.to(dtype)
    path = tmp_path / "half.pth"
    torch.save(network.state_dict(), path)
    loaded = load_model(import_file(path, task="derain"), None)
    assert equal(loaded, network.float())


def mlx_layout(state):
    """Kernels as (O, kH, kW, I), as the MLX mirrors hold them."""
    return {
        key: value.permute(0, 2, 3, 1).contiguous() if value.dim() == 4 else value
        for key, value in state.items()
    }


@pytest.mark.parametrize("kind", ["restormer", "gray"])
def test_kernels_of_the_mlx_mirrors_are_turned(tmp_path, kind):
    _, network = network_of(kind)
    path = tmp_path / "mirror.safetensors"
    safetensors.torch.save_file(mlx_layout(network.state_dict()), path)
    entry = import_file(path, task="deblur")
    assert equal(load_model(entry, None), network)
    assert equal(load_model(None, path), network)


class Call:
    """Unpickled, it would run ``function``."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def tiny_state():
    return network_of("hint")[1].state_dict()


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def safetensors_of(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def huge_zip():
    """A PyTorch file whose records are compressed: small here, any size in memory."""
    file = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2**20)})))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    return file.getvalue()


def bad_contents(trap):
    """Name → bytes; every one has to be refused."""
    state = tiny_state()
    weight = state["output.weight"]

    def changed(**tensors):
        return saved({"params": {**state, **{k.replace("__", "."): v for k, v in tensors.items()}}})

    good = safetensors.torch.save(state)
    torch_file = saved({"params": state})
    flipped = bytearray(torch_file)
    flipped[len(flipped) - 30] ^= 0xFF  # in the zip directory at the end
    return {
        "makes-a-folder.pth": saved({"params": Call(os.mkdir, trap)}),
        "makes-a-file.pth": pickle.dumps(Call(open, trap, "w")),
        "runs-a-shell.pth": saved(Call(os.system, f"touch {trap}")),
        "evaluates.pth": pickle.dumps({"params": Call(eval, f"open({trap!r}, 'w')")}, protocol=2),
        "old-format-runs.pth": saved(
            {"params": Call(os.mkdir, trap)}, _use_new_zipfile_serialization=False
        ),
        "whole-module.pth": saved(nn.Linear(2, 2)),
        "web-page.pth": b"<html>not found</html>",
        "empty.pth": b"",
        "one-byte.pth": b"P",
        "zeros.safetensors": bytes(1000),
        "cut.pth": torch_file[: len(torch_file) // 2],
        "cut.safetensors": good[: len(good) // 2],
        "directory-damaged.pth": bytes(flipped),
        "header-too-long.safetensors": (10**12).to_bytes(8, "little") + good[8:],
        "header-not-json.safetensors": safetensors_of(b"{broken"),
        "offsets-beyond-the-end.safetensors": safetensors_of(
            {"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}
        ),
        "integers.safetensors": safetensors.torch.save({"a": torch.ones(3, dtype=torch.int64)}),
        "no-tensors.safetensors": safetensors_of({}),
        "zip-bomb.pth": huge_zip(),
        "number.pth": saved({"params": 3}),
        "list.pth": saved([weight]),
        "no-tensors.pth": saved({"params": {}}),
        "number-for-a-name.pth": saved({"params": {1: weight}}),
        "text-for-a-tensor.pth": changed(output__weight="text"),
        "extra-key.pth": changed(extra=weight),
        "missing-key.pth": saved({"params": {k: v for k, v in state.items() if k[0] != "o"}}),
        "other-shape.pth": changed(output__weight=torch.ones(3, 16, 3)),
        "other-width.pth": changed(output__weight=torch.ones(3, 24, 3, 3)),
        "not-a-number.pth": changed(output__weight=weight / 0),
        "infinite-in-float32.pth": changed(output__weight=weight.double() * 0 + 1e300),
        "whole-numbers.pth": changed(output__weight=weight.to(torch.int8)),
        "complex.pth": changed(output__weight=weight.to(torch.complex64)),
        "sparse.pth": changed(output__weight=weight.to_sparse()),
        "no-storage.pth": changed(output__weight=weight.to("meta")),
        "claims-4-terabytes.pth": changed(output__weight=weight.flatten()[:1].expand(10**12)),
        "too-many.pth": saved({str(i): weight[0, 0] for i in range(reading.MOST_TENSORS + 1)}),
        "twice.pth": changed(**{"module.output.weight": weight}),
        "two-networks.pth": changed(latent__0__attn__calibration__dwconv__weight=weight),
        "text-for-metadata.safetensors": safetensors.torch.save(state, {"network": "vgg"}),
        "impossible-options.safetensors": safetensors.torch.save(
            state, {"network": "hint", "options": '{"dim": 7}'}
        ),
        "options-not-json.safetensors": safetensors.torch.save(
            state, {"network": "hint", "options": "dim"}
        ),
        "options-a-list.safetensors": safetensors.torch.save(
            state, {"network": "hint", "options": "[1]"}
        ),
        "ordered-dict-of-dicts.pth": saved(collections.OrderedDict(a={"b": {"c": weight}})),
    }


@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
def test_bad_files_are_refused_with_a_sentence_and_nothing_in_them_runs(cli, tmp_path, own_folder):
    trap = tmp_path / "trap"
    contents = bad_contents(str(trap))
    assert len(contents) >= 30
    for name, data in contents.items():
        path = tmp_path / name
        path.write_bytes(data)
        outcome = cli("models", "import", path, "--task", "derain")
        assert outcome.exit_code == WeightsError.exit_code, name
        message = outcome.stderr.splitlines()[0]
        assert message.startswith("Error: ")
        assert name in message
        assert len(message) < len(str(tmp_path)) + 320
        with pytest.raises(WeightsError):
            load_model(None, path)
    assert not trap.exists()
    assert not registry_path().exists()
    assert not (own_folder / "models").exists()


def test_a_hostile_file_is_refused_by_the_name_of_what_it_wanted(cli, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(saved(Call(os.mkdir, str(tmp_path / "made"))))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    outcome = cli("derain", tmp_path / "a.png", "--weights", path)
    assert outcome.exit_code == WeightsError.exit_code
    assert "it wants to run" in outcome.stderr
    assert "mkdir" in outcome.stderr


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate(choice.LARGEST_BYTES + 1)  # sparse: it takes no room
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(WeightsError, match="1,074 MB at most"):
        reading.read_checkpoint(path)


def test_the_first_difference_is_named(tmp_path):
    path = tmp_path / "odd.pth"
    state = tiny_state()
    torch.save({**state, "output.weight": torch.ones(3, 24, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"'output.weight' is \(3, 24, 3, 3\), expected"):
        import_file(path, task="derain")
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"does not fit restormer: 18 keys missing, first 'enc"):
        import_file(path, task="derain", network="restormer")


def test_an_imported_model_is_listed_shown_used_verified_and_removed(cli, tmp_path, photo_file):
    name, network = network_of("hint")
    path = tmp_path / "Own Net.pth"
    torch.save({"params": network.state_dict()}, path)
    imported = cli("models", "import", path, "--task", "dehaze", "--licence", "CC0-1.0")
    assert imported.exit_code == 0
    assert imported.stdout.startswith("hint-dehaze-own-net: dehaze · hint · ")
    listed = {m["id"]: m for m in json.loads(cli("models", "list", "--json").stdout)["models"]}
    mine = listed["hint-dehaze-own-net"]
    assert mine["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (mine["installed"], mine["licence"], mine["network"]) == (True, "CC0-1.0", name)
    path.unlink()
    photo = photo_file()
    assert cli("dehaze", photo, "--model", "hint-dehaze-own-net").exit_code == 0
    assert photo.with_name("photo.dehaze.png").exists()
    kept = Path(cli("models", "path", "hint-dehaze-own-net").stdout.strip())
    assert is_unchanged(kept)
    assert "as it was installed" in cli("models", "verify").stdout
    assert "licence" in cli("models", "show", "hint-dehaze-own-net").stdout
    assert cli("models", "remove", "hint-dehaze-own-net").exit_code == 0
    assert not kept.exists()
    assert cli("models", "show", "hint-dehaze-own-net").exit_code == WeightsError.exit_code


def test_an_altered_file_in_the_cache_is_found_before_use(cli, tmp_path, photo_file):
    path = tmp_path / "own.pth"
    torch.save(tiny_state(), path)
    entry = import_file(path, task="derain")
    data = bytearray(entry.path.read_bytes())
    data[-1] ^= 1
    entry.path.write_bytes(bytes(data))
    outcome = cli("derain", photo_file(), "--model", entry.id)
    assert outcome.exit_code == WeightsError.exit_code
    assert "was altered" in outcome.stderr
    verified = cli("models", "verify")
    assert verified.exit_code == WeightsError.exit_code
    assert "was altered" in verified.stderr
    import_file(path, task="derain")  # heals it
    assert cli("models", "verify").exit_code == 0


def test_a_published_hint_file_completes_its_entry(tmp_path):
    path = tmp_path / "Rain100L_HINT.pth"
    torch.save({"params": tiny_state()}, path)
    with pytest.raises(UsageError, match="do not tell its task"):
        import_file(path)
    entry = import_file(path, task="derain")
    assert entry.id == "hint-derain"
    assert registry()["hint-derain"].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert registry()["hint-derain"].licence == "none stated"
    assert registry().best("derain").id == "restormer-derain"


def test_a_name_that_is_taken_is_refused(tmp_path):
    path = tmp_path / "own.pth"
    torch.save(tiny_state(), path)
    for taken in ("restormer-derain", "hint-derain-packed"):
        with pytest.raises(WeightsError, match="is the name of another file"):
            import_file(path, task="derain", entry_id=taken)
    with pytest.raises(UsageError, match="may have letters"):
        import_file(path, task="derain", entry_id="../../x")
    assert not registry_path().exists()


def test_a_known_file_becomes_its_entry_without_a_task(tmp_path):
    path = tmp_path / "any-name.pth"
    torch.save(tiny_state(), path)
    first = import_file(path, task="derain", entry_id="mine")
    assert import_file(path).id == first.id == "mine"


def test_the_users_registry_keeps_its_comments_and_a_broken_one_is_named(cli, tmp_path):
    registry_path().parent.mkdir(parents=True, exist_ok=True)
    registry_path().write_text("# found in the attic\n")
    save_weights(tmp_path / "a.safetensors", network_of("hint")[1], "hint", TINY)
    import_file(tmp_path / "a.safetensors", task="desnow", entry_id="a")
    assert registry_path().read_text().startswith("# found in the attic\n")
    assert registry()["a"].options == TINY
    registry_path().write_text("[broken")
    outcome = cli("models", "list")
    assert outcome.exit_code == WeightsError.exit_code
    assert "weights.toml is not TOML" in outcome.stderr


KEYS = Path(__file__).parent / "golden" / "state_dict_keys.json"


@pytest.mark.long
@pytest.mark.parametrize("layout", json.loads(KEYS.read_text()))
def test_full_size_files_in_every_published_layout_are_imported_converted_and_run(
    cli, monkeypatch, tmp_path, layout
):
    torch.manual_seed(2)
    shapes = json.loads(KEYS.read_text())[layout]["keys"]
    state = {key: torch.randn(shape) * 0.01 for key, shape in shapes.items()}
    path = tmp_path / f"{layout}.pth"
    torch.save({"params": state}, path)
    command = [sys.executable, "-m", "restorecli"]
    added = subprocess.run(
        [*command, "models", "import", path, "--task", "denoise", "--id", "full"],
        capture_output=True,
        text=True,
    )
    assert added.returncode == 0, added.stderr
    loaded = load_model(registry()["full"], None)
    assert set(loaded.network.state_dict()) == set(shapes)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert gives_finite_values(loaded)
    monkeypatch.setattr(crops, "CROP_PX", 32)
    monkeypatch.setattr(crops, "CALIBRATION_CROPS", 2)
    converted = cli("models", "convert", "full", "--to", "glmha", "--id", "converted")
    if layout in {"hint", "restormer_dual_pixel"}:
        assert converted.exit_code == WeightsError.exit_code
        return
    assert converted.exit_code == 0, converted.stderr
    student = load_model(registry()["converted"], None)
    assert student.channels == loaded.channels
    assert gives_finite_values(student)


def gives_finite_values(model):
    x = torch.rand(1, model.channels, 16, 16)
    with torch.inference_mode():
        return bool(torch.isfinite(model.network(x)).all())


def test_a_failed_write_loses_no_installed_network(monkeypatch):
    sha256 = "0" * 64
    state = {"weight": torch.ones(2)}
    before = keep(sha256, state, "hint", TINY)

    def fail(*arguments, **options):
        raise OutputError("Cannot write: no space left on device.")

    monkeypatch.setattr(store, "write_atomically", fail)
    with pytest.raises(WeightsError, match="no space left"):
        keep(sha256, {"weight": torch.zeros(2)}, "hint", TINY)
    assert is_unchanged(before)
    monkeypatch.undo()
    after = keep(sha256, {"weight": torch.zeros(2)}, "hint", TINY)
    assert [after] == list(after.parent.iterdir())


# Files that would take for ever, or all memory


def old_format(content):
    """A file of PyTorch's old format, of which ``content`` is the part that says what it holds."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    return b"".join([*parts, content, pickle.dumps([], 2)])


def nested_key(levels):
    """A table whose key is a pair of pairs of pairs …: its hash takes 2^levels steps."""
    pair = b"\x80\x02}K\x00q\x00" + b"".join(
        b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
        for level in range(levels)
    )
    return pair + b"K\x01s."


def storage_of(count):
    """A storage that claims ``count`` values."""
    return (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + b"\x8a\x08" + count.to_bytes(8, "little") + b"NtQ."
    )  # fmt: skip


def described(**options):
    header = {"__metadata__": {"network": "hint", "options": json.dumps(options)}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (old_format(nested_key(40)), "keys are no strings"),
        (old_format(storage_of(2**40)), "more values than the file holds"),
        (
            old_format(b"\x80\x02c__builtin__\nset\n]\x85R."),
            "nothing inside a checkpoint is ever run",
        ),
        (old_format(b"\x80\x02" + b"(" * 50_000 + b"."), "not a usable checkpoint"),
        (described(num_blocks=[10**6] * 4), "dictionary of tensors"),
    ],
)
def test_a_few_bytes_take_no_time(cli, tmp_path, photo_file, data, reason):
    (tmp_path / "net.pth").write_bytes(data)
    started = time.monotonic()
    outcome = cli("derain", photo_file(), "--weights", tmp_path / "net.pth")
    assert time.monotonic() - started < 20
    assert outcome.exit_code == 4
    assert reason in outcome.stderr


@pytest.mark.parametrize(
    "options",
    ['{"num_blocks": [1000000, 1, 1, 1]}', '{"dim": 1e99}', "[" * 100_000, '{"dim": [[[[1]]]]}'],
)
def test_options_beyond_measure_are_refused(cli, tmp_path, photo_file, options):
    tensors, said = {"x": torch.zeros(1)}, {"network": "hint", "options": options}
    safetensors.torch.save_file(tensors, tmp_path / "net.safetensors", said)
    outcome = cli("derain", photo_file(), "--weights", tmp_path / "net.safetensors")
    assert outcome.exit_code == 4
    assert "its options" in outcome.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_no_file_or_too_large_is_not_read(cli, tmp_path, photo_file):
    os.mkfifo(tmp_path / "pipe.pth")
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(5 * 2**30)
    photo = photo_file()
    for name, reason in (
        (tmp_path / "pipe.pth", "it is a pipe, not a file"),
        ("/dev/zero", "it is a device, not a file"),
        (tmp_path / "large.pth", "MB at most"),
        ("https://me:secret@example.org/net.pth", "is an address"),
    ):
        for command in (
            ("derain", photo, "--weights", name),
            ("models", "import", name, "--task", "derain"),
        ):
            outcome = cli(*command)
            assert outcome.exit_code == 4, outcome.stderr
            assert reason in outcome.stderr
            assert "secret" not in outcome.stderr


def test_an_archive_whose_records_overlap_is_refused(tmp_path, cli, photo_file):
    stream = io.BytesIO()
    torch.save({"x": torch.zeros(1000)}, stream)
    data = bytearray(stream.getvalue())
    at = data.rindex(b"PK\x01\x02")  # the last entry of the central directory
    data[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2  # its two sizes
    (tmp_path / "net.pth").write_bytes(data)
    outcome = cli("derain", photo_file(), "--weights", tmp_path / "net.pth")
    assert outcome.exit_code == 4
    assert "claim more than the file holds" in outcome.stderr
