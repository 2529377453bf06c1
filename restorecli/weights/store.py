"""The cache of installed checkpoints: safetensors, named by what they were and by what they hold.

``models/<sha256 of the published file>/<sha256 of this file>.safetensors``: the folder says which
checkpoint it is, the name whether it is still the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import safetensors.torch

from restorecli.errors import OutputError, WeightsError
from restorecli.files.atomic import write_atomically
from restorecli.weights.fitting import State
from restorecli.weights.places import ELSEWHERE, cache_folder
from restorecli.weights.registry import Options, installed_path


def keep(sha256: str, state: State, network: str, options: Options) -> Path:
    """Write the tensors of the published file ``sha256`` into the cache, whole or not at all."""
    described = {"network": network, "options": json.dumps(dict(options)), "source_sha256": sha256}
    tensors = {key: value.contiguous().clone() for key, value in state.items()}
    data = safetensors.torch.save(tensors, described)
    path = cache_folder() / "models" / sha256 / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    try:
        write_atomically(path, data, overwrite=True)
    except OutputError as error:
        raise WeightsError(error.message, hint=ELSEWHERE) from error
    for other in path.parent.glob("*.safetensors"):  # only now: a failed write has lost nothing
        if other != path:
            other.unlink()
    return path


def is_unchanged(path: Path) -> bool:
    """Whether a file of the cache holds what its name says."""
    return hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def discard(sha256: str) -> bool:
    """Remove the checkpoint of that published file from the cache; whether there was one."""
    path = installed_path(sha256)
    if path is None:
        return False
    shutil.rmtree(path.parent)
    return True
