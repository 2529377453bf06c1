"""Join a Ray cluster, or start one here; and how many actors there is room for."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from restorecli.errors import DeviceError, UsageError
from restorecli.machine.cores import available_cores
from restorecli.machine.extras import install_hint
from restorecli.runs.job import Pool

LOOPBACK = "127.0.0.1"
OWN_TOKEN = secrets.token_hex(32)  # of the Rays that this process starts
TOKEN_VARIABLES = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
ANSWER_S = 5  # for a cluster to answer at its address
DEFAULTS = {  # unless the user has said otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # of a Ray of our own: its actors are what the user waits for
}


@contextmanager
def cluster(pool: Pool) -> Iterator[None]:
    """Be connected to the cluster at ``pool.address``; one of our own ends with the block.

    Raises ``UsageError`` without Ray, ``DeviceError`` when nothing answers at the address or its
    versions are others.
    """
    with nullcontext() if pool.address else _closed_to_others(), _joined(pool):
        yield


@contextmanager
def _joined(pool: Pool) -> Iterator[None]:
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--engine ray needs a further package.",
            hint=install_hint("ray"),
        ) from error
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Ray prints what happens to a cluster on stdout, where our data go; there is no public switch.
    ray._private.worker._worker_logs_enabled = False
    if pool.address is not None:
        _refuse_silence(pool.address)
    own: dict[str, Any] = {
        "_node_ip_address": LOOPBACK,  # nobody else is to reach it
        "num_cpus": max(available_cores(), (pool.actors or 0) * pool.cpus),
        "include_dashboard": False,
    }
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            pool.address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if pool.address else own),
        )
    except ConnectionError as error:
        raise _unreachable(pool.address or "this machine") from error
    except RuntimeError as error:
        if "uthentication" in type(error).__name__ or "AUTH_TOKEN" in str(error):
            raise DeviceError(
                f"The Ray cluster at {pool.address} asks for a token, and this one does not do.",
                hint="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.",
            ) from error
        if "Version mismatch" not in str(error):
            raise
        raise DeviceError(
            f"The Ray cluster at {pool.address} has other versions: "
            f"{' '.join(str(error).split())}.",
            hint="Install the same versions of Ray and Python on both sides.",
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # which Ray takes for itself
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _closed_to_others() -> Iterator[None]:
    """Settings of a Ray of our own: it asks for a token, and listens on this machine only.

    Without them whoever reaches it can run anything as this user. Ray would take an address that
    others reach instead of the loopback, and there is no public switch: a test looks at sockets.
    """
    given = TOKEN_VARIABLES & os.environ.keys()
    settings = {"RAY_AUTH_MODE": "token"} | ({} if given else {"RAY_AUTH_TOKEN": OWN_TOKEN})
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        _take_up_settings()
        with suppress(ImportError):  # `_joined` tells
            from ray._private import services

            services.resolve_ip_for_localhost = lambda host: host
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _take_up_settings()


def _take_up_settings() -> None:
    """Let a Ray that was imported before see what is in the environment by now."""
    if "ray" in sys.modules:  # there is no public call for it
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")


def room_for(pool: Pool, device: str) -> tuple[int, float]:
    """How many actors to start, and the GPUs of each; ``DeviceError`` if they do not fit."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = pool.gpus
    if gpus is None:
        gpus = 1.0 if device != "cpu" and any(node.get("GPU") for node in nodes) else 0.0

    def fitting(node: dict[str, float]) -> int:
        by_cpus = int(node.get("CPU", 0) // pool.cpus)
        return min(by_cpus, int(node.get("GPU", 0) / gpus)) if gpus else by_cpus

    room = sum(map(fitting, nodes))
    wanted = pool.actors or max(room, 1)
    if wanted > room:
        raise DeviceError(
            f"{wanted} actor(s) of {pool.cpus} CPU(s) and {gpus:g} GPU(s) were asked for, "
            f"the cluster has room for {room}.",
            hint="Give a smaller --actors, --cpus-per-actor or --gpus-per-actor.",
        )
    return wanted, gpus


def _refuse_silence(address: str) -> None:
    """Ray would try for minutes where nobody listens."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise UsageError(
            f"--ray-address {address!r} is not an address.",
            hint="Give auto, or HOST:PORT as `ray start --head` prints it.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address) from error


def _unreachable(address: str) -> DeviceError:
    return DeviceError(
        f"No Ray cluster answers at {address}.",
        hint="Start one with `ray start --head`, or leave out --ray-address for one of our own.",
    )
