"""Checkpoints into the cache, and the user's own ones into their registry."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import safetensors.torch
import tomlkit

from restorecli.errors import OutputError, UsageError, WeightsError
from restorecli.files.atomic import write_atomically
from restorecli.weights.fitting import State, architecture_of, as_published, build, fill
from restorecli.weights.places import ELSEWHERE, lock, registry_path
from restorecli.weights.reading import Checkpoint, read_checkpoint
from restorecli.weights.registry import Options, Registry, WeightEntry, own_registry, registry
from restorecli.weights.store import discard, keep

NOT_RECORDED = "not recorded"


def import_file(
    path: Path,
    *,
    task: str | None = None,
    network: str | None = None,
    entry_id: str | None = None,
    licence: str | None = None,
    source: str | None = None,
) -> WeightEntry:
    """Check a file, put its tensors into the cache and record it, so that its id can be used.

    A file whose hash is known needs no ``task``: it becomes that entry. ``source`` is the address
    it came from, if there is one. Raises ``WeightsError`` when the file does not fit and
    ``UsageError`` when its task cannot be known; then nothing has been recorded.
    """
    checkpoint = read_checkpoint(path)
    known = registry()
    for entry in known.values():
        if entry.sha256 == checkpoint.sha256 and entry_id in {None, entry.id}:
            return install(entry, checkpoint)
    awaited = _awaited(known, checkpoint, task, entry_id)
    if task is None and awaited is None:
        raise UsageError(
            f"{path} is not a file that weights.toml knows, and its tensors do not tell its task.",
            hint="Add --task, such as --task derain.",
        )
    state = as_published(checkpoint.state)
    wanted = network or (awaited.network if awaited else None)
    name, options = architecture_of(path, checkpoint.described, state, wanted)
    fill(build(path, name, options), state, path, name)
    facts = {
        "network": name,
        "options": options,
        "source": source or f"import:{_plain(path.name)}",
        "size_bytes": checkpoint.size_bytes,
        "sha256": checkpoint.sha256,
        "note": f"imported from {path.name}; size and sha256 are those of the user's file",
    }
    if awaited:
        entry = awaited.model_copy(update=facts)
    else:
        entry = WeightEntry.model_validate(
            {
                "id": entry_id or f"{name}-{task}-{_plain(path.stem)}".lower(),
                "tasks": [task],
                "licence": "none stated",
                "citation": NOT_RECORDED,
                "protocol": NOT_RECORDED,
                **facts,
            }
        )
    if licence:
        entry = entry.model_copy(update={"licence": licence})
    _refuse_taken(known, entry)
    install(entry, checkpoint)
    record(entry)
    return entry


def install(entry: WeightEntry, checkpoint: Checkpoint) -> WeightEntry:
    """Put the tensors of ``checkpoint`` into the cache as those of ``entry``, which they must fit.

    Raises ``WeightsError`` when they do not.
    """
    state = as_published(checkpoint.state)
    name, options = entry.network, entry.options
    fill(build(checkpoint.path, name, options), state, checkpoint.path, name)
    with lock(checkpoint.sha256):
        keep(checkpoint.sha256, state, name, options)
    return entry


def add_network(
    entry_id: str,
    network: str,
    options: Options,
    state: State,
    *,
    made_from: WeightEntry,
    note: str,
) -> WeightEntry:
    """Install and record tensors that were made here, in place of earlier ones of that id."""
    known = registry()
    if entry_id in known and entry_id not in own_registry():
        raise WeightsError(f"{entry_id} is the name of another model.", hint="Give another --id.")
    described = {"network": network, "options": json.dumps(dict(options))}
    data = safetensors.torch.save({k: v.contiguous() for k, v in state.items()}, described)
    digest = hashlib.sha256(data).hexdigest()
    entry = WeightEntry.model_validate(
        {
            "id": entry_id,
            "network": network,
            "options": options,
            "tasks": made_from.tasks,
            "source": f"import:{entry_id}.safetensors",
            "size_bytes": len(data),
            "sha256": digest,
            "licence": made_from.licence,
            "citation": made_from.citation,
            "protocol": made_from.protocol,
            "note": note,
        }
    )
    with lock(digest):
        keep(digest, state, network, options)
    record(entry)
    return entry


def record(entry: WeightEntry) -> None:
    """Write ``entry`` into the user's registry, in place of one of the same id."""
    data = entry.model_dump(mode="json", exclude_defaults=True, exclude={"id"})
    with lock("registry"):
        own_registry()  # refuses a file that is broken already
        document = _document()
        document[entry.id] = data
        _write(document)


def remove(entry: WeightEntry) -> tuple[bool, bool]:
    """Take ``entry`` out of the cache and out of the user's registry: whether it was in each."""
    if entry.is_bundled:
        raise WeightsError(f"{entry.id} is part of the package and cannot be removed.")
    discarded = discard(entry.sha256) if entry.sha256 else False
    with lock("registry"):
        recorded = entry.id in own_registry()
        if recorded:
            document = _document()
            document.remove(entry.id)
            _write(document)
    return discarded, recorded


def _awaited(
    known: Registry, checkpoint: Checkpoint, task: str | None, entry_id: str | None
) -> WeightEntry | None:
    """The entry without a hash that this file completes: the named one, or by its file name."""
    if entry_id is not None:
        return known[entry_id] if entry_id in known and not known[entry_id].sha256 else None
    for entry in known.values():
        if not entry.sha256 and entry.file_name == checkpoint.path.name and task in entry.tasks:
            return entry
    return None


def _refuse_taken(known: Registry, entry: WeightEntry) -> None:
    if not re.fullmatch(r"[\w.-]+", entry.id):
        raise UsageError(f"--id {entry.id!r} may have letters, digits, '.', '_' and '-' only.")
    if entry.id in known and known[entry.id].sha256 not in {None, entry.sha256}:
        raise WeightsError(
            f"{entry.id} is the name of another file (sha256 {known[entry.id].sha256}).",
            hint="Give this one another --id.",
        )


def _plain(name: str) -> str:
    """``name`` with nothing in it that an address or an id cannot have."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "file"


def _document() -> tomlkit.TOMLDocument:
    """The user's registry with its comments and order."""
    path = registry_path()
    text = path.read_text(encoding="utf-8") if path.exists() else "# My own checkpoints.\n"
    return tomlkit.parse(text)


def _write(document: tomlkit.TOMLDocument) -> None:
    try:
        data = tomlkit.dumps(document).encode()
        write_atomically(registry_path(), data, overwrite=True)
    except OutputError as error:
        raise WeightsError(error.message, hint=ELSEWHERE) from error
