"""Restore photographs spoiled by rain, snow, haze, noise, darkness, motion or defocus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restorecli.engine.api import load, restore_image
    from restorecli.report.slider import slider

__version__ = "0.1.0"
__all__ = ["__version__", "load", "restore_image", "slider"]


def __getattr__(name: str) -> Any:
    """The Python interface on first use: importing the package loads neither torch nor numpy."""
    if name in {"load", "restore_image"}:
        from restorecli.engine import api

        return getattr(api, name)
    if name == "slider":
        from restorecli.report.slider import slider

        return slider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
