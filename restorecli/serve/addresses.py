"""Where the page listens, and by which names it may be asked for."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

import psutil

from restorecli.errors import UsageError

LOOPBACK = "127.0.0.1"
USUAL_PORT = 8770  # taken if it is free and none was asked for


def check_host(host: str, *, exposed: bool) -> str:
    """``host`` as an address; ``UsageError`` if others could reach it and nobody allowed that."""
    try:
        address = ipaddress.ip_address(LOOPBACK if host == "localhost" else host)
    except ValueError:
        raise UsageError(
            f"--host {host!r} is no address.", hint=f"Give one such as {LOOPBACK} or ::1."
        ) from None
    if not address.is_loopback and not exposed:
        raise UsageError(
            f"--host {host} can be reached from other machines.",
            hint="If that is meant, add --expose; nothing is encrypted then, and whoever has the "
            "address sees every photograph.",
        )
    return str(address)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens there; ``UsageError`` if that is not possible."""
    wanted = [USUAL_PORT, 0] if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem: OSError | None = None
    for number in wanted:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows lets others listen there, too
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            listener.listen()
        except OSError as error:
            listener.close()
            problem = error
        else:
            return listener
    assert problem is not None
    hint = "Give another --port, or none for one that is free." if port else "Give another --host."
    what = f"{host}, port {port}" if port else host
    raise UsageError(
        f"Cannot listen at {what}: {problem.strerror or problem}.", hint=hint
    ) from problem


def hosts(host: str, port: int) -> list[str]:
    """What ``Host`` may say, the first being what is printed."""
    address = ipaddress.ip_address(host)
    names = [host]
    if address.is_unspecified:
        names = [*_own_addresses(address.version), LOOPBACK if address.version == 4 else "::1"]
    names += ["localhost"] if address.is_loopback or address.is_unspecified else []
    found = [f"[{name}]" if ":" in name else name for name in names]
    return [f"{name}:{port}" for name in found] + (found if port == 80 else [])


def _own_addresses(version: int) -> list[str]:
    """Addresses of this machine that others may know."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            with suppress(ValueError):
                if entry.family == family and "%" not in entry.address:
                    address = ipaddress.ip_address(entry.address)
                    found += [] if address.is_loopback else [str(address)]
    return found
