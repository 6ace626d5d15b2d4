"""A run: from a plan to records, report and exit code."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console

from lab import ceiling, config, host, report, results
from lab.cell import CellRun
from lab.config import Cell, Plan
from lab.equal_work import Work
from lab.errors import ConfigError, LabError, ResultError, ServiceError
from lab.paths import PRESETS
from lab.progress import RunProgress
from lab.results import CeilingRecord, CellRecord, Manifest, Run
from lab.settings import ROUTES, SCENARIOS, SMALL_HOST_CORES, Settings, host_defaults
from lab.snapshot import archive
from lab.stack.base import Stack, StackFacts
from lab.story import RunStory

log = logging.getLogger(__name__)

EXIT_REJECTED = 3
#: Seconds of pgbench on each route and protocol.
CEILING_S = 3

PACKAGES = (
    *("fastapi", "django", "flask", "sqlalchemy", "asyncpg", "psycopg", "gunicorn", "uvloop"),
    *("locust", "prometheus-client"),
)


@dataclass
class Request:
    """What the user asked for; `overrides` maps a toggle to (value, source)."""

    preset: str
    overrides: dict[str, tuple[str, str]]
    env_file: dict[str, str]
    command: str
    resume: str | None = None
    ceilings: bool = True
    report: bool = True


def plan(request: Request) -> Plan:
    """Return the cells of a request; raise ConfigError for what cannot be run."""
    return config.plan(config.load_preset(request.preset), request.env_file, request.overrides)


def resumed(request: Request, folder: Path) -> tuple[Request, Run]:
    """Return the request as the interrupted run was started, and that run.

    Raises ResultError where it is unknown or was made with other settings or on another machine.
    """
    assert request.resume is not None
    run = results.find(folder, request.resume)
    manifest = run.manifest()
    before = {"STACK": manifest.stack} | manifest.overrides
    if given := [n for n, (value, _) in request.overrides.items() if before.get(n) != value]:
        raise ConfigError(
            f"{', '.join(given)} cannot be given with RESUME: run {run.run_id} goes on "
            "with the settings that it was started with"
        )
    overrides = {name: (value, "resumed run") for name, value in manifest.overrides.items()}
    whole = Request(manifest.preset, overrides, request.env_file, request.command, request.resume)
    cells = {cell.cell_id: cell for cell in plan(whole).cells}
    for cell_id, digest in manifest.cells.items():
        if cell_id not in cells or cells[cell_id].digest != digest:
            raise ResultError(
                f"run {run.run_id} was made with other settings ({cell_id} differs); put .env and "
                "the preset back, or start a new run"
            )
    if not host.same_machine(manifest.host, host.describe()):
        raise ResultError(f"run {run.run_id} was made on another machine; start a new run")
    return whole, run


def as_started(run: Run, s: Settings) -> Settings:
    """Return settings that choose the stack which an interrupted run was started on.

    Cells of two stacks are never in one run.
    """
    if not (run.folder / "manifest.json").exists():
        return s
    return s.model_copy(update={"stack": run.manifest().stack})


def execute(request: Request, stack: Stack, planned: Plan, run: Run, console: Console) -> int:
    """Measure what is not measured yet, and leave records, tables and plots; return exit code."""
    facts = stack.facts()
    cells, notes = possible(planned, facts, request)
    if request.resume:
        _refuse_changes(run.manifest(), facts, cells)
    first = cells[0][1]
    if facts.limits:
        notes += halved_limits(first, host_defaults())
    reused = reusable(run, cells)
    manifest = _manifest(request, planned, run, facts, [c for c, _ in cells], notes, first)
    run.write_manifest(manifest)
    try:
        for note in notes:
            console.print(note, highlight=False)
        if request.ceilings and not manifest.ceilings:
            ceilings = _ceilings(stack, [s for _, s in cells], console)
            manifest = manifest.model_copy(update={"ceilings": ceilings})
            run.write_manifest(manifest)
        prometheus = _cells(stack, run, cells, reused, facts, console)
        found = keep_panels(run, prometheus)
        manifest = manifest.model_copy(update={
            "status": "finished", "finished_at": time.time(), "notes": [*manifest.notes, *found],
        })  # fmt: skip
    except BaseException:
        manifest = manifest.model_copy(update={"status": "interrupted"})
        raise
    finally:
        run.write_manifest(manifest)
    if request.report:
        report.write(run)
        run.write_manifest(manifest)
    return EXIT_REJECTED if any(r.status == "rejected" for r in run.records()) else 0


def _refuse_changes(
    manifest: Manifest, facts: StackFacts, cells: list[tuple[Cell, Settings]]
) -> None:
    """Raise ResultError where a resumed run would be of two sets of cells or programs."""
    if more := [cell.cell_id for cell, _ in cells if cell.cell_id not in manifest.cells]:
        raise ResultError(
            f"run {manifest.run_id} was started without {more[0]}; put the preset back, or start a "
            "new run"
        )
    for name, version in (facts.versions | _packages()).items():
        if (old := manifest.versions.get(name)) != version:
            raise ResultError(
                f"run {manifest.run_id} was made with {name} {old or '(none)'}, here is {version}; "
                "start a new run"
            )


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def possible(
    planned: Plan, facts: StackFacts, request: Request
) -> tuple[list[tuple[Cell, Settings]], list[str]]:
    """Return the cells that can run here with DB_PREPARED resolved, and a note on the others.

    Raises ConfigError where the combination was asked for by hand.
    """
    cells: list[tuple[Cell, Settings]] = []
    left_out = []
    for cell in planned.cells:
        resolved = facts.with_prepared(cell.settings)
        if resolved is None:
            left_out.append(cell.cell_id)
        else:
            cells.append((cell, resolved))
    if not left_out:
        return cells, []
    reason = facts.why_unprepared
    if not cells or "DB_PREPARED" in request.overrides:
        raise ConfigError(f"{reason}; use DB_PREPARED=auto or PGBOUNCER_POOL_MODE=session")
    return cells, [f"left out, {reason}: {', '.join(left_out)}"]


def halved_limits(s: Settings, defaults: Mapping[str, float]) -> list[str]:
    """Return a note where the limits are the halved defaults of a small host."""
    if not defaults or any(getattr(s, name.lower()) != cpus for name, cpus in defaults.items()):
        return []
    shown = ", ".join(f"{name}={cpus:g}" for name, cpus in defaults.items())
    return [f"default limits halved on a host with fewer than {SMALL_HOST_CORES} cores: {shown}"]


def reusable(run: Run, cells: list[tuple[Cell, Settings]]) -> dict[str, CellRecord]:
    """Return the accepted records of an earlier start whose hash and settings still match."""
    found = {}
    for cell, _ in cells:
        record = run.record(cell.cell_id)
        if (
            record is not None
            and record.status == "accepted"
            and record.settings_digest == cell.digest
        ):
            found[cell.cell_id] = record
    return found


def _manifest(
    request: Request, planned: Plan, run: Run, facts: StackFacts, cells: list[Cell],
    notes: list[str], first: Settings,
) -> Manifest:  # fmt: skip
    if (run.folder / "manifest.json").exists():
        return run.manifest().model_copy(update={"status": "running"})
    return Manifest(
        run_id=run.run_id,
        preset=planned.preset.name,
        description=planned.preset.description,
        command=request.command,
        overrides={name: value for name, (value, _) in request.overrides.items()},
        started_at=time.time(),
        seed=planned.seed,
        stack=facts.name,
        limits=facts.limits,
        limits_reason=facts.limits_reason,
        host=host.describe(),
        versions=facts.versions | _packages(),
        settings=first.public(),
        axes=planned.axes,
        cells={cell.cell_id: cell.digest for cell in cells},
        notes=notes,
    )


def _ceilings(stack: Stack, settings: list[Settings], console: Console) -> list[CeilingRecord]:
    """Measure pgbench on the same limited database, for each scenario and route of the run."""
    records: list[CeilingRecord] = []
    for scenario, route in itertools.product(SCENARIOS, ROUTES):
        fitting = [s for s in settings if (s.scenario, s.route) == (scenario, route)]
        if not fitting:
            continue
        first = max(fitting, key=lambda s: (s.db_cpus, s.pgbouncer_cpus))  # the first such cell's
        endpoints = stack.start_database(first)
        role, password = endpoints.service_role, endpoints.service_password
        target = ceiling.Target(route, endpoints.database, role, password)
        prepares = route == "direct" or stack.facts().prepares_through(first)
        for protocol in get_args(ceiling.Protocol):
            try:
                found = ceiling.measure(
                    stack.pgbench(), target, protocol, first, duration_s=CEILING_S,
                    prepared_supported=prepares,
                )  # fmt: skip
            except ServiceError as error:  # the cells can be measured without
                found = ceiling.unknown(target, protocol, first, str(error))
            figure = "not measured" if found.tps is None else f"{found.tps:,.0f} tps"
            why = f": {found.reason}" if found.reason else ""
            console.print(
                f"pgbench {scenario:<10} {route:<9} {protocol:<8} {figure}{why}", highlight=False
            )
            records.append(CeilingRecord(**asdict(found), db_cpus=first.db_cpus))
    return records


def _cells(
    stack: Stack, run: Run, cells: list[tuple[Cell, Settings]], reused: Mapping[str, CellRecord],
    facts: StackFacts, console: Console,
) -> str | None:  # fmt: skip
    """Measure the cells that are not measured yet; return where Prometheus answered last."""
    works: dict[tuple[str | int, ...], Work] = {}
    story = RunStory(stack)
    story.finished(*reused.values())
    with RunProgress(console, [cell for cell, _ in cells]) as progress:
        for cell, settings in cells:
            if cell.cell_id in reused:
                progress.skip(cell)
                continue
            progress.begin(cell)
            one = CellRun(
                cell, settings, stack, run, progress, works, facts.limits is not None, story=story
            )
            progress.end(one.measure())
        story.wait_until_scraped()
    return progress.prometheus


def keep_panels(run: Run, prometheus: str | None) -> list[str]:
    """Keep what the dashboards showed of the run; where that fails, say so, and lose nothing."""
    if prometheus is None:
        return ["the dashboards' panels were not kept: Prometheus did not run at the end"]
    try:
        archive.collect(run, prometheus, time.time())
    except LabError as error:
        return [f"the dashboards' panels were not kept: {error}"]
    return []


def new_run_id(preset: str, folder: Path, now: float) -> str:
    """Return an id that sorts by time and names the preset."""
    base = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{preset}"
    return base if not (folder / base).exists() else f"{base}-{int(now * 1000) % 1000:03d}"


def settle(run: Run) -> None:
    """Point `latest` at a run that measured something, and remove one that never did."""
    if any(run.folder.glob("cells/*/record.json")):
        results.point_latest(run.folder.parent, run.run_id)
    else:
        shutil.rmtree(run.folder, ignore_errors=True)


def interrupted(folder: Path) -> list[tuple[str, int, int]]:
    """Return (run id, accepted cells, all cells) of the runs that did not end, oldest first."""
    found = []
    for path in sorted(folder.glob("*/manifest.json")):
        if path.parent.is_symlink():
            continue
        with contextlib.suppress(ResultError):  # damaged, or of an older version: no offer
            manifest = Run(path.parent).manifest()
            # Ladders and experiments are no presets, and are run again as a whole.
            if manifest.status != "finished" and (PRESETS / f"{manifest.preset}.toml").is_file():
                done = sum(r.status == "accepted" for r in Run(path.parent).records())
                found.append((manifest.run_id, done, len(manifest.cells)))
    return found
