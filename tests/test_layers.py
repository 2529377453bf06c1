"""Who may import whom: the table is the rule, and this file compares it with the imports."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import restorecli

PACKAGE = Path(restorecli.__file__).parent

MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"commands", "console", "errors", "machine"},
    "commands": {
        "console",
        "conversion",
        "engine",
        "errors",
        "files",
        "images",
        "limits",
        "machine",
        "report",
        "runs",
        "scoring",
        "weights",
        "serve",
        "spectral",
    },
    "console": {"errors", "machine", "report", "scoring"},
    "serve": {
        "engine",
        "errors",
        "files",
        "images",
        "machine",
        "report",
        "runs",
        "scoring",
        "weights",
    },
    "runs": {
        "degradations",
        "engine",
        "errors",
        "files",
        "images",
        "limits",
        "machine",
        "report",
        "scoring",
        "weights",
    },
    "scoring": {"errors", "files", "images", "limits", "machine", "report"},
    "conversion": {"degradations", "errors", "images", "machine", "networks", "weights"},
    "__init__": {"engine", "report"},
    "engine": {"errors", "images", "limits", "machine", "networks", "weights"},
    "images": {"errors", "files", "limits", "machine"},
    "weights": {"errors", "files", "limits", "machine", "networks"},
    "spectral": {
        "engine",
        "errors",
        "files",
        "images",
        "machine",
        "networks",
        "report",
        "runs",
        "scoring",
        "weights",
    },
    "networks": {"machine"},
    "degradations": set(),
    "report": {"errors", "files", "images", "limits"},
    "files": {"errors", "machine"},
    "machine": {"errors"},
    "limits": set(),
    "errors": set(),
}
HEAVY = ("torch", "cv2", "skimage", "huggingface_hub")


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("restorecli"):
            parts = node.module.split(".")
            if len(parts) > 1:
                yield parts[1]
            else:
                yield from (a.name for a in node.names if not a.name.startswith("__"))
        elif isinstance(node, ast.Import):
            yield from (
                a.name.split(".")[1] for a in node.names if a.name.startswith("restorecli.")
            )


def roots_of(path):
    """The first name of everything that the file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def test_every_module_imports_only_what_the_table_allows():
    actual = {}
    for path in PACKAGE.rglob("*.py"):
        module = module_of(path)
        actual.setdefault(module, set()).update(set(imports_of(path)) - {module})
    assert set(actual) == set(MAY_IMPORT)
    excess = {m: actual[m] - MAY_IMPORT[m] for m in actual if actual[m] - MAY_IMPORT[m]}
    assert excess == {}
    unused = {m: MAY_IMPORT[m] - actual[m] for m in actual if MAY_IMPORT[m] - actual[m]}
    assert unused == {}


def test_the_top_level_is_small_and_every_room_is_explained():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 21, sorted(entries)
    explained = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    unexplained = {name for name in entries if f"── {name}" not in explained}
    assert unexplained == {"__init__.py", "__main__.py", "py.typed"}


def test_nobody_imports_in_a_circle():
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError, which names the circle


def test_the_package_imports_neither_training_nor_tests():
    outside = {"benchmarks", "examples", "tests", "training"}
    for path in PACKAGE.rglob("*.py"):
        assert not outside & set(roots_of(path)), path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["derain", "--help"], ["--version"], ["derain", "x", "--tile", "500"]]
)
def test_answers_that_need_no_network_load_no_heavy_library(arguments):
    heavy = (*HEAVY, "pydantic", "rich") if "x" not in arguments else HEAVY
    code = (
        "import sys\n"
        f"sys.argv = ['restore', *{arguments!r}]\n"
        "from restorecli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"
