"""`make ladder` and `make ladder-crash`: from words of the command line to an exit code."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from rich.console import Console

from lab import env_file, watching
from lab.errors import ConfigError
from lab.ladder import records, report, runner
from lab.ladder import settings as ladder_settings
from lab.results import Run
from lab.stack import manual, select
from lab.stack.home import Home, locked
from lab.stack.native import NativeStack

#: Words that are no settings.
OPTIONS = frozenset({"VERBOSE", "PYTHON"})


def run(words: Sequence[str], home: Home, console: Console, *, crash: bool = False) -> int:
    """Run the ladder, or its crash test; return the exit code. Raises ConfigError for bad words."""
    preset = records.CRASH_PRESET if crash else records.PRESET
    overrides = _overrides(words)
    if crash:
        _refuse(overrides, "REPETITIONS", "TARGET_TPS", "DURATION", "WARMUP")
    env = env_file.ensure()
    own, settings = ladder_settings.build(env, overrides)
    text = shlex.join(["make", preset, *words])
    asked = runner.request(own, settings, home, overrides, text, preset)
    with locked(home, text):
        manual.refuse_if_up(home)
        folder = runner.new_run(preset)
        try:
            ports = select.ports_asked_for(env, overrides)
            aside = ladder_settings.set_aside(env)
            return _run(asked, folder, home, ports, console, aside, crash=crash)
        finally:
            runner.settle(folder)


def _run(
    asked: runner.Request, run: Run, home: Home, ports: set[str], console: Console,
    aside: str | None, *, crash: bool,
) -> int:  # fmt: skip
    if asked.settings.stack == "compose":
        raise ConfigError(
            "STACK=compose is not for the ladder: its generator is a process of this host, and the "
            "way into a container would be measured with it; use STACK=native"
        )
    chosen = asked.settings.model_copy(update={"stack": "native"})
    title = f"{len(asked.rungs)} rungs"
    with watching.stack_of_run(
        home, run, [chosen], ports, console, title, watching.LADDER
    ) as stack:
        assert isinstance(stack, NativeStack)
        if aside:
            console.print(aside, highlight=False)
        go = runner.crash if crash else runner.execute
        code = go(asked, stack, run, console)
    if not crash:
        report.show(run, console)
    console.print(str(run.folder / "summary_report.md"), highlight=False)
    watching.look_again(run, console)
    return code


def _overrides(words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Join what the environment and the command line say; the command line wins."""
    found = {n: (v, "environment") for n, v in ladder_settings.from_environment().items()}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not of the form NAME=value")
        if name == "VERBOSE" and value:
            logging.getLogger("lab").setLevel(logging.DEBUG)
        if name in OPTIONS:
            continue
        ladder_settings.check_name(name, "command line")
        found[name] = (value, "command line")
    return found


def _refuse(overrides: dict[str, tuple[str, str]], *names: str) -> None:
    for name in names:
        if name in overrides:
            raise ConfigError(f"{name} ({overrides[name][1]}) means nothing to the crash test")
