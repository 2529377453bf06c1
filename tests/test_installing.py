"""Two names of the command, the image's recipe, and hints that work in this environment."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from restorecli import cli as command_line
from restorecli.machine import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PARTS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "FROM", "RUN", "USER", "WORKDIR"}


@pytest.fixture
def stages():
    """The stages of the Dockerfile: lists of (instruction, rest), without what precedes FROM."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            if name == "FROM":
                found.append([])
            if found:
                found[-1].append((name, rest.strip()))
    return found


def test_the_image_has_only_instructions_that_every_builder_knows(stages):
    assert {name for stage in stages for name, _ in stage} <= PARTS
    assert len(stages) == 2


def test_the_image_is_built_from_the_wheel_alone(stages):
    build, last = stages
    copied = [rest.split()[:-1] for name, rest in build if name == "COPY"]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
    needed = {"pyproject.toml", "weights.toml", PROJECT["readme"], *PROJECT["license-files"]}
    assert needed | {"restorecli"} == {path for paths in copied for path in paths}
    assert any("pip wheel" in rest for name, rest in build if name == "RUN")
    from_here = [rest for name, rest in last if name == "COPY" and "--from=build" not in rest]
    assert from_here == ["constraints.txt /tmp/constraints.txt"]


def test_the_image_runs_as_an_ordinary_user_and_carries_no_waste(stages):
    last = dict(stages[1])
    names = [name for name, _ in stages[1]]
    assert last["USER"] not in {"root", "0", ""}
    assert f" {last['USER']}" in last["RUN"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert "--no-cache-dir" in last["RUN"]
    assert "--constraint" in last["RUN"]
    bases = [dict(stage)["FROM"] for stage in stages]
    assert all(":" in base and ":latest" not in base for base in bases)


def test_the_image_starts_the_command_and_has_a_python_that_is_supported(stages):
    entry = re.fullmatch(r'\["([\w-]+)"\]', dict(stages[1])["ENTRYPOINT"])
    assert entry is not None
    assert entry[1] in PROJECT["scripts"]
    version = re.search(r"^ARG PYTHON=3\.(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert version is not None
    assert least is not None
    assert int(version[1]) >= int(least[1])


def test_both_names_start_the_same_program(monkeypatch, capsys):
    assert PROJECT["scripts"] == {
        "restore": "restorecli.cli:main",
        "restorecli": "restorecli.cli:main",
    }
    for name in PROJECT["scripts"]:
        monkeypatch.setattr(sys, "argv", [f"/usr/local/bin/{name}", "derain", "--help"])
        with pytest.raises(SystemExit):
            command_line.main()
        assert f"{name} derain" in capsys.readouterr().out


@pytest.fixture
def in_environment(monkeypatch, tmp_path):
    """As if the package was installed in an environment with these files."""

    def made(*names, activated=False):
        for name in names:
            (tmp_path / name).touch()
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path) if activated else "/another")
        return tmp_path

    return made


@pytest.fixture
def installed(monkeypatch):
    """As if the package was installed, whose metadata names what its extras need."""
    lines = [f"{need} ; extra == '{extra}'" for extra, needs in EXTRAS.items() for need in needs]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=1.26", *lines])


@pytest.mark.usefixtures("installed")
def test_hints_name_packages_that_can_be_had_and_the_installer_that_is_there(in_environment):
    python = shlex.quote(sys.executable)
    folder = in_environment()
    assert extras.install_hint("heic") == f"Install it: {python} -m pip install 'pillow-heif>=0.20'"
    in_environment(activated=True)
    assert extras.install_hint("heic") == "Install it: pip install 'pillow-heif>=0.20'"
    in_environment("uv-receipt.toml")
    assert extras.installer() == f"uv pip install --python {folder}"
    in_environment("pipx_metadata.json")
    assert extras.installer() == f"pipx inject {folder.name}"


@pytest.mark.usefixtures("installed")
def test_every_extra_that_a_hint_names_is_one():
    named = set()
    for path in (ROOT / "restorecli").rglob("*.py"):
        named |= set(re.findall(r"install_hint\(['\"](\w+)['\"]", path.read_text(encoding="utf-8")))
    assert {"heic", "raw", "perceptual", "ray"} <= named
    for extra in named:
        listed = [one.partition(";")[0] for one in EXTRAS[extra]]
        assert extras.packages_of(extra) == listed


def test_a_checkout_that_is_not_installed_is_named_itself(monkeypatch):
    def unknown(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", unknown)
    assert extras.install_hint("heic").endswith(f"{shlex.quote(f'{ROOT}[heic]')}")


def test_no_hint_names_the_project_as_if_it_could_be_had_by_name():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in [*pages, *(ROOT / "restorecli").rglob("*.py")]:
        assert "pip install 'restorecli[" not in path.read_text(encoding="utf-8"), path


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("target", "said"), [("demo", ["Installing into", "Restoring"]), ("test", ["Testing"])]
)
def test_make_says_what_it_does_before_it_takes_its_time(target, said):
    planned = subprocess.run(
        ["make", "-n", "-B", "-C", str(ROOT), target], capture_output=True, text=True, check=True
    ).stdout
    for words in said:
        assert f'echo "{words}' in planned
    assert planned.index('echo "Installing into') < planned.index("-m venv")
