"""Ports on loopback: the conventional ones, or the next free where one is taken."""

from __future__ import annotations

import socket
from collections.abc import Collection

from lab.errors import ConfigError
from lab.settings import PORT_FIELDS, Settings


def free(port: int) -> bool:
    """Return whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def allocate(settings: Settings, asked_for: Collection[str]) -> dict[str, int]:
    """Return a free port for each port setting, by field name.

    Raises ConfigError for a taken port whose variable is in `asked_for`.
    """
    chosen = [name for name in PORT_FIELDS if name.upper() in asked_for]
    given: dict[str, int] = {}
    for name in chosen:
        wanted = getattr(settings, name)
        if other := next((n for n, port in given.items() if port == wanted), None):
            raise ConfigError(f"{name.upper()}={wanted} is {other.upper()}'s too; choose another")
        if not free(wanted):
            raise ConfigError(
                f"{name.upper()}={wanted} was asked for, but 127.0.0.1:{wanted} is taken; "
                "choose another or leave it out"
            )
        given[name] = wanted
    for name in PORT_FIELDS:
        if name not in given:
            given[name] = next_free(name, getattr(settings, name), given.values())
    return {name: given[name] for name in PORT_FIELDS}


def next_free(name: str, wanted: int, given: Collection[int]) -> int:
    """Return the first free port from `wanted` on that is not given yet; `name` is its setting's.

    Raises ConfigError where there is none.
    """
    for port in range(wanted, 65536):
        if port not in given and free(port):
            return port
    raise ConfigError(f"no free port from {wanted} on for {name.upper()}")
