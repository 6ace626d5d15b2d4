"""Which stack runs, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from rich.console import Console

from lab.errors import LabError
from lab.settings import PORT_FIELDS, TOGGLES, Settings
from lab.stack import docker, images, native, state, toolchain
from lab.stack.base import Stack
from lab.stack.compose import ComposeStack
from lab.stack.compose_settings import build
from lab.stack.home import Home
from lab.stack.native import NativeStack
from lab.stack.project import take_down
from lab.stack.state import Left

log = logging.getLogger(__name__)

PORTS = tuple(name.upper() for name in PORT_FIELDS)


def ports_asked_for(
    env_file: Mapping[str, str], overrides: Mapping[str, tuple[str, str]]
) -> set[str]:
    """Return the ports that the user chose: given by hand, or changed in .env."""
    changed = {n for n in PORTS if n in env_file and env_file[n] != str(TOGGLES[n].default)}
    return changed | (set(overrides) & set(PORTS))


def open_stack(
    home: Home,
    settings: Settings,
    asked_for: set[str],
    console: Console,
    *,
    detached: bool = False,
    first: Callable[[Stack], object] = lambda stack: None,
) -> Stack:
    """Return the stack that these settings choose, with nothing of an earlier start left running.

    Says which and why in one line; `first` is called with it before. Raises ConfigError where it
    cannot be had.
    """
    if ended := (*native.clean_up(home), *take_down(home)):
        log.warning("ended what an earlier start left running: %s", ", ".join(ended))
    state.remove(home)  # of what is gone by now, as after the host was started again
    stack, why = _choose(home, settings, asked_for, detached=detached)
    first(stack)
    limits = stack.limits.kind or f"NOT ENFORCED: {stack.limits.reason}"
    console.print(f"stack {stack.name} ({why}); limits: {limits}", highlight=False)
    for name, port in stack.ports.items():
        if port != getattr(settings, name):
            console.print(f"{name.upper()} {getattr(settings, name)} is taken; using {port}")
    return stack


def _choose(
    home: Home, settings: Settings, asked_for: set[str], *, detached: bool
) -> tuple[Stack, str]:
    if settings.stack == "native":
        return NativeStack.open(home, settings, asked_for, detached=detached), "asked for"
    try:
        engine = docker.probe()
        found = images.resolve(home, settings, lambda service: build(home, settings, service))
    except LabError as error:
        if settings.stack == "compose":
            raise
        reason = str(error).removesuffix(f", {docker.NATIVE}")
        return NativeStack.open(home, settings, asked_for, detached=detached), reason
    stack = ComposeStack.open(home, settings, asked_for, engine, found, detached=detached)
    kind = "offline images" if found.offline else "its images"
    why = "asked for" if settings.stack == "compose" else f"Docker {engine.version} answers"
    left_out = "" if found.grafana else f"; without Grafana: {found.why}"
    return stack, f"{why}, with {kind}{left_out}"


def attach(home: Home, left: Left) -> Stack:
    """Return the stack that was left running, to put load on it: nothing of it is started or ended.

    Raises ConfigError where its engine does not answer.
    """
    if left.stack == NativeStack.name:
        return NativeStack.attached(home, dict(left.ports))
    found = images.Images(left.images, None)
    return ComposeStack(home, docker.probe(), found, dict(left.ports), set(PORTS))


def programs(home: Home, console: Console) -> None:
    """Find or fetch the server programs and print their versions."""
    tools = toolchain.ensure(home.toolchain)
    for name, path in tools.programs.items():
        console.print(f"{name:<18} {tools.version(name):<10} {path}", highlight=False)
