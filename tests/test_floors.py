"""The lowest versions that CI installs are those that pyproject.toml allows."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
HIGHER = {"torch": "2.13.0"}  # of the floor itself only builds of a gigabyte exist


def test_the_lowest_versions_are_the_floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = map(Requirement, [*project["dependencies"], *extras["heic"]])
    newest = {"python_version": "3.13"}
    floors = {
        one.name: next(s.version for s in one.specifier if s.operator == ">=")
        for one in asked
        if one.marker is None or one.marker.evaluate(newest)
    }
    text = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8")
    pins = map(Requirement, (line for line in text.splitlines() if line[:1] not in {"#", ""}))
    lowest = {one.name: next(iter(one.specifier)).version for one in pins}

    def parts(version):
        return [int(part) for part in version.split(".")]

    for name, floor in floors.items():
        expected = parts(HIGHER.get(name, floor))
        assert parts(lowest[name])[: len(expected)] == expected, name
