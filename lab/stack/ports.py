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
    given: dict[str, int] = {}
    for name in PORT_FIELDS:
        wanted = getattr(settings, name)
        if name.upper() in asked_for and not free(wanted):
            raise ConfigError(
                f"{name.upper()}={wanted} was asked for, but 127.0.0.1:{wanted} is taken; "
                "choose another or leave it out"
            )
        port = wanted
        while port in given.values() or not free(port):
            port += 1
            if port > 65535:
                raise ConfigError(f"no free port from {wanted} on for {name.upper()}")
        given[name] = port
    return given
