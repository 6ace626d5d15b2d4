"""A ladder run: rungs and ceilings in shuffled order, records, then tables and pictures."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
from rich.console import Console

from lab import host, results
from lab.errors import LabError, ServiceError
from lab.ladder import ceiling, crash_report, plan, records, report, tables
from lab.ladder.checks import verification_of_ceiling
from lab.ladder.crash import CrashRun
from lab.ladder.plan import Rung, Step
from lab.ladder.records import Measured, RungRecord
from lab.ladder.rung import RungRun
from lab.ladder.settings import LadderSettings
from lab.paths import RESULTS
from lab.prometheus import Prometheus
from lab.results import Manifest, Run
from lab.runner import keep_panels
from lab.settings import Settings
from lab.stack.base import Endpoints, LadderStack, StackFacts
from lab.stack.home import Home
from lab.story import RunStory
from monitoring.signals import SCRAPE_INTERVAL_S

EXIT_REJECTED = 3
POLL_S = 0.2
PACKAGES = ("asyncpg", "psycopg", "numpy", "uvloop")
DESCRIPTION = {
    records.PRESET: "Writing rows by every method, from a connection per insert to COPY",
    records.CRASH_PRESET: "PostgreSQL killed in mid-write on every rung: what is lost?",
}


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked as far as that needs no server."""

    own: LadderSettings
    settings: Settings
    rungs: tuple[Rung, ...]
    home: Home
    overrides: dict[str, tuple[str, str]]
    command: str
    preset: str = records.PRESET


def request(
    own: LadderSettings, settings: Settings, home: Home, overrides: dict[str, tuple[str, str]],
    command: str, preset: str,
) -> Request:  # fmt: skip
    """Return a request that can be run here; raise ConfigError for one that cannot."""
    rungs = plan.choose(plan.catalogue(), own)
    plan.check_connections(rungs, own, settings)
    there = next(p for p in (home.root, *home.root.parents) if p.exists())
    plan.check_room(own, shutil.disk_usage(there).free, psutil.cpu_count() or 1)
    through = any(rung.route(own) == "pgbouncer" for rung in rungs)
    placed = settings.model_copy(update={"route": "pgbouncer" if through else "direct"})
    return Request(own, placed, tuple(rungs), home, overrides, command, preset)


def execute(asked: Request, stack: LadderStack, run: Run, console: Console) -> int:
    """Measure every rung, and leave records, tables and pictures; return the exit code."""
    steps = plan.steps(asked.rungs, asked.own.repetitions, asked.settings.seed)
    story = RunStory(stack)
    return _through(
        asked, stack, run, console, steps,
        lambda step: line(_measure(asked, step, stack, run, story)),
    )  # fmt: skip


def crash(asked: Request, stack: LadderStack, run: Run, console: Console) -> int:
    """Kill PostgreSQL in mid-write on every rung and count; return the exit code."""
    steps = [s for s in plan.steps(asked.rungs, 1, asked.settings.seed) if s.rung is not None]
    cores = psutil.cpu_count() or 1

    def one(step: Step) -> str:
        record = CrashRun(step, asked.own, asked.settings, stack, run, cores).test()
        return crash_report.line(record)

    return _through(asked, stack, run, console, steps, one)


def _through(
    asked: Request, stack: LadderStack, run: Run, console: Console, steps: list[Step],
    one: Callable[[Step], str],
) -> int:  # fmt: skip
    """Go through the steps: `one` does a step, leaves its record and returns a line on it."""
    manifest = new_manifest(asked, run, stack.facts(), [step.cell_id for step in steps])
    run.write_manifest(manifest)
    try:
        prepare_tables(stack, asked.settings, console)
        for number, step in enumerate(steps, 1):
            text = f"{number:>3}/{len(steps)} {one(step)}"
            console.print(text, highlight=False, soft_wrap=True)
        manifest = manifest.model_copy(update={"status": "finished", "finished_at": time.time()})
    except BaseException:
        manifest = manifest.model_copy(update={"status": "interrupted"})
        raise
    finally:
        run.write_manifest(manifest)
    endpoints = remove_tables(stack, asked.settings)
    wait_for_the_end(endpoints.prometheus)
    manifest = manifest.model_copy(update={"notes": keep_panels(run, endpoints.prometheus)})
    run.write_manifest(manifest)
    report.write(run)
    run.write_manifest(manifest)
    return EXIT_REJECTED if any(r.status == "rejected" for r in records.read(run)) else 0


def wait_for_the_end(prometheus: str | None) -> None:
    """Wait until Prometheus has seen that no rung is measured any more, three scrapes at most.

    Series whose end it did not see go on for a while, into the run's last panels.
    """
    deadline = time.monotonic() + 3 * max(
        SCRAPE_INTERVAL_S["locust"], SCRAPE_INTERVAL_S["poolscope"]
    )
    while prometheus is not None and time.monotonic() < deadline:
        try:
            if not Prometheus(prometheus).query("lab_cell_info or on() ladder_info", time.time()):
                return
        except ServiceError:
            return  # keeping the panels says why
        time.sleep(POLL_S)


def line(record: RungRecord) -> str:
    """Return one line on a record."""
    m = record.measured
    text = "no measurement" if m is None else f"{m.rows_per_s:>12,.0f} rows/s"
    if m is not None and m.latency_p95_ms is not None:
        text += f", P95 {m.latency_p95_ms:,.1f} ms"
    mark = "" if record.status == "accepted" else f"  REJECTED: {record.reject_reasons[0]}"
    return f"{record.cell_id:<18} {text}{mark.splitlines()[0] if mark else ''}"


def prepare_tables(stack: LadderStack, settings: Settings, console: Console) -> None:
    """Make the tables; those that an interrupted run left are removed by name."""
    endpoints = stack.start_database(settings)
    with psycopg.connect(endpoints.superuser, autocommit=True) as connection:
        if left := tables.left_over(connection):
            console.print(f"removing what an interrupted run left: {', '.join(left)}")
        tables.make(connection)


def remove_tables(stack: LadderStack, settings: Settings) -> Endpoints:
    """Remove the tables, and give the disk back; return where the servers answer."""
    endpoints = stack.start_database(settings)
    with psycopg.connect(endpoints.superuser, autocommit=True) as connection:
        tables.drop(connection)
    return endpoints


def new_manifest(asked: Request, run: Run, facts: StackFacts, cells: list[str]) -> Manifest:
    """Return a run's manifest; the ladder's settings go over the lab's."""
    versions = dict(facts.versions)
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    settings: dict[str, Any] = asked.settings.public() | asked.own.public()
    settings["REMOVES"] = {rung.name: rung.removes for rung in asked.rungs}
    return Manifest(
        run_id=run.run_id,
        preset=asked.preset,
        description=DESCRIPTION[asked.preset],
        command=asked.command,
        overrides={name: value for name, (value, _) in asked.overrides.items()},
        started_at=time.time(),
        seed=asked.settings.seed,
        stack=facts.name,
        limits=facts.limits,
        limits_reason=facts.limits_reason,
        host=host.describe(),
        versions=versions,
        settings=settings,
        axes={"RUNG": [rung.name for rung in asked.rungs]},
        cells=dict.fromkeys(cells, ""),
    )


def _measure(
    asked: Request, step: Step, stack: LadderStack, run: Run, story: RunStory
) -> RungRecord:
    cores = psutil.cpu_count() or 1
    if step.rung is not None:
        return RungRun(step, asked.own, asked.settings, stack, run, cores, story=story).measure()
    return _ceiling(asked, step, stack, run)


def _ceiling(asked: Request, step: Step, stack: LadderStack, run: Run) -> RungRecord:
    """Measure a ceiling as a rung is measured; without it, the others still stand."""
    run.cell_folder(step.cell_id).mkdir(parents=True, exist_ok=True)
    started = time.time()
    found, verified, rejected = None, None, []
    copies = step.name == records.COPY_CEILING
    try:
        endpoints = stack.start_database(asked.settings)
        with psycopg.connect(endpoints.superuser, autocommit=True) as connection:
            tables.empty(connection)
            if copies:
                found = ceiling.copy(stack, endpoints, asked.home.run, asked.settings.seed)
            else:
                found = ceiling.single(stack, endpoints, asked.own.duration)
            verified = verification_of_ceiling(found.rows, tables.count(connection, "ladder_rows"))
    except (LabError, psycopg.Error) as error:
        rejected.append(str(error).strip().splitlines()[0])
    if verified is not None and not verified.right:
        rejected.append(f"rows are not those acknowledged: {verified.why}")
    connections = 1 if copies else ceiling.CLIENTS
    record = RungRecord(
        run_id=run.run_id, cell_id=step.cell_id, rung=step.name,
        method=found.method if found else step.name, durability="committed to disk",
        client="psql" if copies else "pgbench", route="direct", table="ladder_rows",
        batch=found.rows // found.commits if found else 1, pool=connections, lanes=connections,
        processes=1, repetition=step.repetition, target_tps=None,
        status="rejected" if rejected else "accepted", reject_reasons=rejected,
        started_at=started, window_start=started, window_end=time.time(), phases_s={},
        measured=_figures(found) if found else None, verification=verified,
    )  # fmt: skip
    records.write(run, record)
    return record


def _figures(found: ceiling.Found) -> Measured:
    return Measured(
        window_s=found.seconds,
        rows=found.rows,
        writes=found.commits,
        rows_per_s=found.rows / found.seconds,
        commits_per_s=found.commits / found.seconds,
        latency_mean_ms=found.latency_ms,
    )


def new_run(preset: str) -> Run:
    """Make the folder of a run whose id sorts by time."""
    base = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{preset}"
    run_id = base
    for number in range(2, 100):
        if not (RESULTS / run_id).exists():
            break
        run_id = f"{base}-{number}"
    return results.create(RESULTS, run_id)


def settle(run: Run) -> None:
    """Point `latest` at a run that measured something, and remove one that never did."""
    if any(run.folder.glob(f"cells/*/{records.FILE}")):
        results.point_latest(run.folder.parent, run.run_id)
    else:
        shutil.rmtree(run.folder, ignore_errors=True)
