"""Who may import whom: the table is the rule, and this file compares it with the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import restorecli

PACKAGE = Path(restorecli.__file__).parent

MAY_IMPORT = {
    "cli": {"allocator", "commands", "console", "errors"},
    "bench": {"errors", "options", "plan", "restore", "weights"},
    "commands": {
        "batch",
        "bench",
        "comparing",
        "console",
        "converting",
        "distributed",
        "errors",
        "images",
        "inputs",
        "manifest",
        "metrics",
        "options",
        "report",
        "restore",
        "results",
        "scoring",
        "storage",
        "weights",
    },
    "console": {"errors", "metrics", "report"},
    "batch": {
        "errors",
        "images",
        "inputs",
        "manifest",
        "pipeline",
        "plan",
        "report",
        "restore",
        "results",
        "running",
        "scoring",
    },
    "restore": {
        "allocator",
        "errors",
        "images",
        "networks",
        "options",
        "plan",
        "tiling",
        "weights",
    },
    "distributed": {
        "atomic",
        "batch",
        "errors",
        "images",
        "inputs",
        "manifest",
        "plan",
        "report",
        "restore",
        "results",
        "running",
        "scoring",
        "weights",
    },
    "running": {"atomic", "errors", "inputs", "report", "scoring", "weights"},
    "atomic": {"errors", "storage"},
    "storage": {"errors"},
    "comparing": {"atomic", "errors", "pairing", "report", "scoring"},
    "scoring": {"allocator", "errors", "images", "metrics", "pairing", "report"},
    "converting": {"allocator", "degrading", "errors", "images", "networks", "weights"},
    "degrading": set(),
    "degradations": set(),
    "pairing": {"errors"},
    "pipeline": set(),
    "metrics": {"errors"},
    "report": {"atomic", "errors", "storage"},
    "inputs": {"errors", "images", "manifest", "options", "storage"},
    "manifest": {"errors", "storage"},
    "results": {"atomic", "errors", "images", "inputs", "manifest"},
    "plan": {"errors", "networks", "options"},
    "options": {"errors"},
    "weights": {"atomic", "errors", "networks", "options"},
    "tiling": set(),
    "images": {"atomic", "errors", "options", "storage"},
    "networks": {"allocator"},
    "allocator": set(),
    "errors": set(),
    "__main__": {"cli"},
    "__init__": {"api"},
    "api": {"options", "restore", "weights"},
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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["derain", "--help"], ["--version"], ["derain", "x", "--tile", "500"]]
)
def test_answers_that_need_no_network_load_no_heavy_library(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['restore', *{arguments!r}]\n"
        "from restorecli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"
