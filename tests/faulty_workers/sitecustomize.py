"""Faults inside Ray's workers, chosen by the names of pictures.

Python imports this module when it starts, because its folder is in ``PYTHONPATH``.
"""

import os
import pathlib
import signal
import sys

real_exists, real_open = pathlib.Path.exists, os.open


def faulty_open(file, flags, *arguments, **options):
    path = pathlib.Path(os.fsdecode(file))
    marker = path.parent.parent / f"{path.name}.died"
    dies_once = path.name == "once.png" and path.parent.name == "in" and not real_exists(marker)
    if dies_once:
        marker.touch()
    if dies_once or path.name == "deadly.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return real_open(file, flags, *arguments, **options)


def faulty_exists(path, **options):
    return "driver-only" not in str(path) and real_exists(path, **options)


if any("default_worker.py" in argument for argument in sys.orig_argv):
    os.open, pathlib.Path.exists = faulty_open, faulty_exists
