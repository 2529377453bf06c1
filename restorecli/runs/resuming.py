"""What earlier runs, or another process meanwhile, have finished already."""

from __future__ import annotations

from dataclasses import replace

from restorecli.errors import InputError, OutputError
from restorecli.runs.items import Fate, Item, Selection
from restorecli.runs.manifest import Ledger, State
from restorecli.runs.naming import refuse_existing


def resumed(selection: Selection, ledger: Ledger) -> Selection:
    """``selection`` with what earlier runs finished marked so, and what is ours to be replaced.

    Raises ``OutputError`` for results that exist and that no manifest knows.
    """
    found = marked(selection, ledger)
    foreign = [item.target for item in found.items if isinstance(item.error, ForeignError)]
    refuse_existing(foreign, resuming=True)
    return found


def marked(selection: Selection, ledger: Ledger) -> Selection:
    """The same; a result that no manifest knows is the failure of its picture."""
    items = [_resumed(item, ledger) for item in selection.items]
    for root in {item.root for item in items if item.root}:
        ledger.forget(root)  # what a million records take is better left to the run
    return replace(selection, items=items)


class ForeignError(OutputError):
    """Something that we have not written has the name of a result."""


def _resumed(item: Item, ledger: Ledger) -> Item:
    if item.error or item.root is None:
        return item
    try:
        state = ledger.state(item.source, item.target, item.root)
    except OSError as error:
        problem = InputError(f"Cannot read {item.source}: {error.strerror or error}.")
        return replace(item, fate=problem)
    if state == "foreign" and not item.in_place:
        return replace(item, fate=ForeignError(f"{item.target} is not a result of ours."))
    if state == "outdated" and item.in_place:
        problem = InputError(
            f"{item.source} was restored in place before, with other options or another model, "
            "and its original is gone.",
            hint="Leave out --resume to restore the result once more.",
        )
        return replace(item, fate=problem)
    fate_of: dict[State, Fate] = {"free": "new", "finished": "keep"}
    return replace(item, fate=fate_of.get(state, "replace"))


def finished_meanwhile(item: Item, ledger: Ledger) -> bool:
    """Whether another process has written just this result since the run began."""
    if item.root is None or item.replaces or not item.target.exists():
        return False
    try:
        if ledger.state(item.source, item.target, item.root) == "foreign":
            ledger.forget(item.root)
        return ledger.state(item.source, item.target, item.root) == "finished"
    except OSError:
        return False
