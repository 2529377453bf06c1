"""The same run on Ray: paths travel to actors, rows come back.

An actor loads the network once and does with each picture what a single process does
(`restorecli.runs.local.restore_item`). The driver hands out the work, counts the tries of a picture
whose worker died, and needs no torch. Why actors: docs/decisions/0009-actors-on-ray.md.
"""

from __future__ import annotations

from restorecli.runs.ray.connection import Pool
from restorecli.runs.ray.driver import run

__all__ = ["Pool", "run"]
