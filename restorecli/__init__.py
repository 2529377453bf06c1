"""Restore photographs spoiled by rain, snow, haze, noise, darkness, motion or defocus."""

__version__ = "0.1.0"
