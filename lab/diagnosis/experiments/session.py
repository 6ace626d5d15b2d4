"""Experiments: cells with settings of their own, run by the same runner as every bench."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lab import report, results, runner, watching
from lab.config import MAIN_AXES, Cell, Plan, Preset, check_combination
from lab.files import write_atomic
from lab.results import Run
from lab.settings import PORT_FIELDS, SECRET_FIELDS, build, host_defaults
from lab.stack import manual, select
from lab.stack.base import Stack
from lab.stack.home import Home, locked


@dataclass(frozen=True)
class Lab:
    """Where experiments are run: home, folder of the runs, `.env`, and who is told."""

    home: Home
    folder: Path
    env: Mapping[str, str]
    console: Console


@dataclass
class Session:
    """One run to which cells are added while it goes on; Interrupted passes through."""

    run: Run
    request: runner.Request
    stack: Stack
    preset: Preset
    console: Console

    def measure(self, cells: Sequence[Cell]) -> None:
        """Measure cells and write records and manifest."""
        if (self.run.folder / "manifest.json").exists():
            manifest = self.run.manifest()
            more = manifest.cells | {cell.cell_id: cell.digest for cell in cells}
            self.run.write_manifest(manifest.model_copy(update={"cells": more}))
        planned = Plan(self.preset, {}, tuple(cells), cells[0].settings.seed)
        runner.execute(self.request, self.stack, planned, self.run, self.console)

    def write_report(self, section: str = "", pictures: Mapping[str, bytes] | None = None) -> None:
        """Write the run's report with a section of its own, and the pictures that it names."""
        if section:
            write_atomic(self.run.folder / report.SECTION, section)
        report.write(self.run)
        for name, content in (pictures or {}).items():
            write_atomic(self.run.folder / "plots" / name, content)
        self.run.write_manifest(self.run.manifest())


def make_cell(
    name: str, values: Mapping[str, Any], env: Mapping[str, str], repetition: int = 1
) -> Cell:
    """Return a cell of these settings; raise ConfigError where they are not allowed."""
    settings = build({**host_defaults(), **env, "MAX_REQUESTS": 0, **values})
    check_combination(settings)
    axes = {axis: getattr(settings, axis.lower()) for axis in MAIN_AXES}
    return Cell(name, axes, repetition, settings)


def of_record(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the toggles of a record that can be set again: no ports, no secrets."""
    left_out = {name.upper() for name in (*PORT_FIELDS, *SECRET_FIELDS)} | {"REPETITIONS"}
    return {name: value for name, value in settings.items() if name not in left_out}


@contextmanager
def open_session(
    lab: Lab, title: str, description: str, command: str, first: Cell, *, ceilings: bool = True
) -> Iterator[Session]:
    """Hold the home's lock and a prepared stack for a run of the given name.

    `ceilings`: measure pgbench too, which predictions of a cell without connecting rest on.
    """
    request = runner.Request(title, {}, dict(lab.env), command, ceilings=ceilings, report=False)
    with locked(lab.home, command):
        manual.refuse_if_up(lab.home)
        run = results.create(lab.folder, runner.new_run_id(title, lab.folder, time.time()))
        try:
            asked_for = select.ports_asked_for(lab.env, {})
            with watching.stack_of_run(
                lab.home, run, [first.settings], asked_for, lab.console, description
            ) as stack:
                yield Session(run, request, stack, Preset(title, description), lab.console)
            watching.look_again(run, lab.console)
        finally:
            runner.settle(run)
