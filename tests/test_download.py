"""Downloads: the real Hub client against a server on loopback, and the one plain address."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from restorecli.errors import WeightsError
from restorecli.networks import NETWORKS
from restorecli.weights import download as downloads
from restorecli.weights import read_registry, registry
from restorecli.weights.checkpoint import load_model
from restorecli.weights.places import cache_folder, registry_path
from tests.conftest import TINY
from tests.hub import COMMIT, started

NAME = "owner/name/net.pth"


def checkpoint_bytes(seed=0, padding=0):
    """A PyTorch file of a tiny HINT; ``padding`` bytes in the file that are no tensor we use."""
    torch.manual_seed(seed)
    network = NETWORKS["hint"](**TINY)
    file = io.BytesIO()
    torch.save({"params": network.state_dict(), "more": torch.zeros(padding // 4)}, file)
    return file.getvalue()


def entry_for(data, hub=None, **changes):
    source = f"hf://owner/name/net.pth@{COMMIT}"
    table = {
        "network": "hint",
        "tasks": ["derain"],
        "source": source,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": "MIT",
        "citation": "nobody",
        "protocol": "whole image",
    } | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None]
    text = "[tiny-derain]\n" + "\n".join(lines) + "\n"
    text += f"options = {{ dim = 8, num_blocks = {TINY['num_blocks']}, num_refinement_blocks = 1 }}"
    return read_registry(text)["tiny-derain"], text


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The running server, and a client in this process that knows only it."""
    server, stop = started()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**14)  # what a cut can cost
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds, really=time.sleep: really(seconds / 200))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    huggingface_hub.close_session()
    stop()


@pytest.fixture
def plain(hub, monkeypatch):
    """The same server at an address that is not a Hub's."""
    data = checkpoint_bytes()
    hub.files["net.pth"] = data
    entry, _ = entry_for(data, source="https://example.invalid/net.pth")
    monkeypatch.setattr(type(entry), "url", f"{hub.url}/cdn/net.pth")
    return hub, entry, data


def installed_equals(entry, data):
    expected = torch.load(io.BytesIO(data), weights_only=True)["params"]
    actual = load_model(entry, None).network.state_dict()
    return all(torch.equal(actual[key], expected[key]) for key in expected)


def test_a_download_is_checked_converted_and_not_repeated(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    entry, _ = entry_for(data)
    seen = []
    ready = downloads.download(entry, on_progress=lambda n, total: seen.append((n, total)))
    assert installed_equals(ready, data)
    assert sum(n for n, _ in seen) == len(data)
    assert {total for _, total in seen} == {len(data)}
    asked = len(hub.asked)
    downloads.download(entry)
    assert len(hub.asked) == asked


def test_a_redirect_to_another_host_takes_no_token_along(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.redirect_to = "cdn"
    data = hub.files[NAME] = checkpoint_bytes()
    assert installed_equals(downloads.download(entry_for(data)[0]), data)
    tokens = {path[:5]: headers.get("authorization") for _, path, headers in hub.asked}
    assert tokens == {"/owne": "Bearer hf_secret", "/cdn/": None}


def test_a_saved_token_is_not_sent_to_another_endpoint(hub, monkeypatch, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("hf_saved")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token_file))
    assert huggingface_hub.get_token() == "hf_saved"
    data = hub.files[NAME] = checkpoint_bytes()
    downloads.download(entry_for(data)[0])
    assert {headers.get("authorization") for _, _, headers in hub.asked} == {None}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the server answered 401"),
        (403, "the server answered 403"),
        (404, "the server answered 404"),
        (429, "the server answered 429"),
        (500, "the server answered 500"),
        (503, "the server answered 503"),
    ],
)
def test_an_answer_that_stays_ends_with_its_number_and_the_way_round(hub, status, reason):
    data = hub.files[NAME] = checkpoint_bytes()
    hub.always = status
    entry, _ = entry_for(data)
    with pytest.raises(WeightsError) as refused:
        downloads.download(entry)
    assert reason in refused.value.message
    assert f"curl -L -o net.pth {entry.url}" in refused.value.hint
    assert "restore models import net.pth" in refused.value.hint
    assert entry.path is None


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_passes_is_waited_for(hub, status):
    data = hub.files[NAME] = checkpoint_bytes()
    hub.statuses = [status]
    assert installed_equals(downloads.download(entry_for(data)[0]), data)


def test_missing_files_and_revisions_are_told_apart(hub):
    data = checkpoint_bytes()
    hub.files["owner/name/other.pth"] = data
    with pytest.raises(WeightsError, match="has no such file"):
        downloads.download(entry_for(data)[0])
    elsewhere, _ = entry_for(data, source=f"hf://owner/name/other.pth@{'f' * 40}")
    with pytest.raises(WeightsError, match="has no such revision"):
        downloads.download(elsewhere)


def random_cuts(size, count=20):
    """``count`` places in a file of ``size`` bytes, in order."""
    return sorted(random.Random(4).sample(range(1, size), count))


def test_a_download_cut_at_20_points_goes_on_and_ends_bit_identical(hub):
    data = hub.files[NAME] = checkpoint_bytes(padding=20_000_000)
    hub.cuts = random_cuts(len(data))
    entry, _ = entry_for(data)
    path = downloads._from_hub(downloads.hub_place(entry.source), False, lambda n, total: None, "x")
    assert path.read_bytes() == data
    assert hub.cuts == []
    assert len(hub.sent_ranges) == 20


def test_a_cut_that_repeats_at_once_ends_with_a_sentence(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    hub.always_cut = 1000
    with pytest.raises(WeightsError, match="Cannot get"):
        downloads.download(entry_for(data)[0])


@pytest.mark.parametrize("what", ["size", "bytes"])
def test_a_file_of_wrong_size_or_bytes_is_not_installed(hub, what):
    data = checkpoint_bytes()
    hub.files[NAME] = data + b"x" if what == "size" else data[:-1] + b"x"
    entry, _ = entry_for(data)
    expected = "bytes, expected" if what == "size" else "sha256 is"
    with pytest.raises(WeightsError, match=expected):
        downloads.download(entry)
    assert entry.path is None


def test_a_server_that_lies_about_the_size_is_found_out(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    hub.claimed_size = len(data) + 7
    with pytest.raises(WeightsError):
        downloads.download(entry_for(data)[0])


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(hub, monkeypatch):
    data = hub.files[NAME] = checkpoint_bytes()
    hub.pause_s = 10.0  # ÷ 200, as all pauses in this test
    assert installed_equals(downloads.download(entry_for(data)[0]), data)
    hub.pause_s = 200.0
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    other = hub.files[NAME] = checkpoint_bytes(seed=1)
    entry, _ = entry_for(other, source=f"hf://owner/name/net.pth@{COMMIT}")
    with pytest.raises(WeightsError):
        downloads.download(entry)


def test_an_altered_file_in_the_clients_cache_is_fetched_again(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    entry, _ = entry_for(data)
    place = downloads.hub_place(entry.source)
    cached = downloads._from_hub(place, False, lambda n, total: None, "x").resolve()
    cached.write_bytes(data[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256 is"):
        downloads.download(entry, offline=True)
    assert installed_equals(downloads.download(entry), data)


def test_an_altered_installed_file_is_made_again(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    entry = downloads.download(entry_for(data)[0])
    entry.path.write_bytes(entry.path.read_bytes()[:-4] + b"0000")
    with pytest.raises(WeightsError, match="was altered"):
        load_model(entry, None)
    assert installed_equals(downloads.download(entry), data)


def test_offline_uses_the_cache_and_otherwise_says_what_to_do(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    entry, _ = entry_for(data)
    with pytest.raises(WeightsError) as refused:
        downloads.download(entry, offline=True)
    assert "curl -L -o net.pth" in refused.value.hint
    assert hub.asked == []
    downloads._from_hub(downloads.hub_place(entry.source), False, lambda n, total: None, "x")
    hub.always = 500
    assert installed_equals(downloads.download(entry, offline=True), data)


def test_a_file_without_a_known_hash_gets_the_one_it_came_with(hub):
    data = hub.files[NAME] = checkpoint_bytes()
    entry, _ = entry_for(data, sha256=None, size_bytes=None, note="size and sha256 are not known")
    downloads.download(entry)
    recorded = registry()["tiny-derain"]
    assert recorded.sha256 == hashlib.sha256(data).hexdigest()
    assert installed_equals(recorded, data)


def test_a_hub_file_of_anybody_is_imported_with_its_commit(cli, hub):
    hub.files["spaces/owner/name/folder/net.pth"] = checkpoint_bytes()
    hub.files[NAME] = checkpoint_bytes(seed=1)
    for kind in ("spaces/owner/name/folder", "owner/name"):
        address = f"hf://{kind}/net.pth"
        outcome = cli("models", "import", f"{address}@main", "--task", "derain", "--id", kind[:3])
        assert outcome.exit_code == 0, outcome.stderr
        assert registry()[kind[:3]].source == f"{address}@{COMMIT}"
    wrong = cli("models", "import", "hf://owner/net.pth", "--task", "derain")
    assert wrong.exit_code == WeightsError.exit_code
    assert "Expected hf://OWNER/NAME/FILE" in wrong.stderr


def test_a_plain_address_is_resumed_and_ends_bit_identical(plain):
    hub, entry, data = plain
    hub.cuts = random_cuts(len(data))
    assert installed_equals(downloads.download(entry), data)
    assert len(hub.sent_ranges) == 20
    assert {headers.get("authorization") for headers in hub.gets} == {None}
    assert list((cache_folder() / "partial").iterdir()) == []


def test_a_plain_address_goes_on_where_another_run_ended(plain):
    hub, entry, data = plain
    hub.cuts = [100_000]
    hub.always_cut = 0
    with pytest.raises(WeightsError, match="Cannot get"):
        downloads.download(entry)
    hub.always_cut = None
    hub.asked.clear()
    assert installed_equals(downloads.download(entry), data)
    assert hub.sent_ranges == ["bytes=100000-"]


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_plain_address_that_refuses_is_told(plain, status):
    hub, entry, _ = plain
    hub.always = status
    with pytest.raises(WeightsError, match=f"answered {status}") as refused:
        downloads.download(entry)
    assert "curl -L" in refused.value.hint
    assert len(hub.gets) == (downloads.ATTEMPTS if status == 503 else 1)


def test_a_plain_address_without_ranges_or_with_wrong_bytes(plain):
    hub, entry, data = plain
    hub.ranges = False
    hub.cuts = [50_000]
    assert installed_equals(downloads.download(entry), data)
    entry = entry.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(WeightsError, match="sha256 is"):
        downloads.download(entry)
    hub.served = data + b"and more"
    with pytest.raises(WeightsError, match="is not the file"):
        downloads.download(entry)
    assert list((cache_folder() / "partial").iterdir()) == []


def environment(hub, tmp_path, **more):
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf-home"),
        "RESTORE_HOME": str(cache_folder()),
    } | more


def command(*arguments):
    return [sys.executable, "-m", "restorecli", "models", *arguments]


def test_two_processes_that_want_the_same_model_download_it_once(hub, tmp_path):
    data = hub.files[NAME] = checkpoint_bytes()
    registry_path().write_text(entry_for(data)[1])
    hub.pause_s = 20.0  # ÷ 200: long enough that both are there
    both = [
        subprocess.Popen(
            command("download", "tiny-derain"),
            env=environment(hub, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in both]
    assert [code for _, _, code in ended] == [0, 0], ended
    assert len(hub.gets) == 1
    assert "licence: MIT" in ended[0][1]
    assert installed_equals(registry()["tiny-derain"], data)
    assert (tmp_path / "hf-home" / "hub").is_dir()


@pytest.mark.long
def test_the_clients_offline_variable_ends_with_the_weights_code(hub, tmp_path):
    data = hub.files[NAME] = checkpoint_bytes()
    registry_path().write_text(entry_for(data)[1])
    ended = subprocess.run(
        command("download", "tiny-derain"),
        env=environment(hub, tmp_path, HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == WeightsError.exit_code
    assert "there is no connection" in ended.stderr
    assert "restore models import net.pth" in ended.stderr
    assert hub.asked == []


def test_quality_best_downloads_what_it_names_and_uses_it(
    cli, hub, monkeypatch, photo_file, tmp_path
):
    data = hub.files[NAME] = checkpoint_bytes()
    entry, _ = entry_for(data)
    shipped = {"tiny-derain": entry}
    monkeypatch.setattr(sys.modules["restorecli.weights.registry"], "_shipped", lambda: shipped)
    monkeypatch.setattr(sys.modules["restorecli.weights.registry"], "FULL_SIZE_DIM", 8)
    photo = photo_file()
    planned = cli("derain", photo, "--effort", "best", "--dry-run")
    assert planned.exit_code == 0
    assert "would download tiny-derain" in planned.stderr
    offline = cli("derain", photo, "--effort", "best", "--offline")
    assert offline.exit_code == WeightsError.exit_code
    assert hub.asked == []
    outcome = cli("derain", photo, "--effort", "best")
    assert outcome.exit_code == 0, outcome.stderr
    assert f"Downloading tiny-derain ({len(data) / 1e6:.1f} MB)" in outcome.stderr
    assert "tiny-derain, cpu" in outcome.stderr
    again = cli("derain", photo, "--effort", "best", "--offline", "--overwrite")
    assert again.exit_code == 0
    both = cli("derain", photo, "--effort", "best", "--model", "tiny-derain")
    assert both.exit_code == 2
    assert Path(photo.with_name("photo.derain.png")).exists()
