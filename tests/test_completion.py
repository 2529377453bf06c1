"""Completion as a shell asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from restorecli.weights import registry
from tests.test_layers import HEAVY


@pytest.fixture
def complete(cli, monkeypatch, capsys):
    """What bash is offered for the last word of a line."""

    def run(line):
        words = line.split(" ")
        monkeypatch.setenv("_RESTORE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        outcome = cli()
        assert outcome.exit_code == 0
        assert outcome.stderr == ""
        return outcome.stdout.split()

    return run


def test_ids_of_networks_are_those_of_the_registry(complete, own_folder):
    assert set(complete("restore derain --model ")) == set(registry())
    assert "hint-derain-packed" in complete("restore models show hint-d")
    (own_folder / "weights.toml").write_text("[mine-own]\ntasks = ['derain']\n", encoding="utf-8")
    assert complete("restore bench --model mi") == ["mine-own"]
    (own_folder / "weights.toml").write_text("[[[", encoding="utf-8")
    assert complete("restore bench --model mi") == []


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("restore de", {"derain", "denoise", "degrade"}),
        ("restore help dera", {"derain"}),
        ("restore models sh", {"show"}),
        ("restore derain --max-", {"--max-memory", "--max-pixels"}),
        ("restore derain --protocol p", {"published"}),
        ("restore metrics --protocol ra", {"rain"}),
        ("restore metrics --with del", {"delta_e2000"}),
        ("restore spectral --protocol c", {"cave"}),
        ("restore derain --format ti", {"tiff"}),
        ("restore derain --device c", {"cpu", "cuda"}),
        ("restore degrade s", {"snow"}),
        ("restore models import x --task desn", {"desnow"}),
        ("restore nothing ", set()),
    ],
)
def test_words_are_completed(complete, line, some):
    found = set(complete(line))
    assert some <= found
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


def test_completing_ids_and_protocols_loads_no_heavy_library():
    code = (
        "import sys\n"
        "sys.argv = ['restore']\n"
        "from restorecli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    for line in ("restore derain --model ", "restore metrics --protocol "):
        words = {"COMP_WORDS": line, "COMP_CWORD": "3", "_RESTORE_COMPLETE": "complete_bash"}
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **words},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout
        assert ended.stderr.splitlines()[-1] == "[]"


def test_completion_is_installed_for_the_shell_that_calls(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert "complete -o default" in cli("--show-completion").stdout
    assert cli("--install-completion").exit_code == 0
    assert "_RESTORE_COMPLETE" in (tmp_path / ".bash_completions" / "restore.sh").read_text()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    refused = cli("--install-completion")
    assert refused.exit_code == 2
    assert "Cannot install completion: " in refused.stderr


def test_an_unknown_shell_is_one_sentence(cli, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    refused = cli("--install-completion")
    assert refused.exit_code == 2
    assert "--install-completion does not know this shell (tcsh)." in refused.stderr
