"""Carry out a job: one call, wherever the work is done."""

from __future__ import annotations

from dataclasses import replace

from restorecli.report import Report
from restorecli.runs.job import Job
from restorecli.runs.listener import Listener
from restorecli.runs.targets import with_writable_targets


def run(job: Job, listener: Listener) -> Report:
    """Restore everything that ``job`` names, in this process or, if it has a pool, on Ray.

    One bad picture never stops the rest, and Ctrl-C ends the run cleanly: the report tells. Raises
    a ``RestoreError``, before any picture is begun, for what cannot work at all.
    """
    job = replace(job, selection=with_writable_targets(job.selection))
    if job.pool is not None:
        from restorecli.runs.ray import driver

        return driver.run(job, listener)
    from restorecli.runs import local  # imports torch

    return local.run(job, listener)
