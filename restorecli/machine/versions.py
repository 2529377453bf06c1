"""The versions that reports name."""

from __future__ import annotations

import importlib.metadata
import platform


def versions() -> dict[str, str]:
    """Versions of what computes the pixels and the scores."""
    found = {"python": platform.python_version()}
    for name in (
        "restorecli",
        "torch",
        "numpy",
        "scikit-image",
        "opencv-python-headless",
        "pillow",
        "llvmlite",
    ):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[name] = "not installed"
    return found
