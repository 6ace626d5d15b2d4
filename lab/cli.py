"""The `lab` command: every make target is one line that calls it.

Settings are given as NAME=value words, as make gives them on: `lab bench PRESET=smoke USERS=10`.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from lab import (
    config,
    doctor,
    env_file,
    kept,
    manual_load,
    report,
    results,
    runner,
    watching,
)
from lab.errors import ConfigError, LabError
from lab.images import offline
from lab.interrupts import Interrupted
from lab.ladder import command as ladder
from lab.ladder import report as ladder_report
from lab.paths import RESULTS, ROOT
from lab.settings import Settings, build, check_name, from_environment, host_defaults
from lab.stack import manual, select
from lab.stack.home import Home, locate, locked
from lab.stack.project import STATE_FOLDER

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
#: Where there is no terminal there is no width to fold lines at.
WIDTH = None if sys.stdout.isatty() else 120
console = Console(width=WIDTH, soft_wrap=WIDTH is not None)

#: Words of the command line that are no toggles: what to do rather than how.
OPTIONS = frozenset(
    {"PRESET", "RESUME", "RUN", "CELL", "SERVICE", "LINES", "VERBOSE", "PYTHON", "WRITE"}
    | {"FOR", "DASHBOARD", "PNG", "PORT", "GRAFANA_URL", "PROMETHEUS_URL", "LIVE", "MAPPING"}
    | {"PAIRS", "STEPS", "SLO_P95_MS", "TARGET_RPS", "CLASSES", "EACH", "FAULTS_SEED", "REMEDIES"}
)

Words = Annotated[list[str] | None, typer.Argument(metavar="[NAME=value]...")]


def _split(words: list[str] | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the options and the toggles among NAME=value words; refuse anything else."""
    options: dict[str, str] = {}
    toggles: dict[str, str] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not of the form NAME=value")
        if name in OPTIONS:
            options[name] = value
        else:
            check_name(name, "command line")
            toggles[name] = value
    if options.get("VERBOSE"):
        logging.getLogger("lab").setLevel(logging.DEBUG)
    return options, toggles


def _overrides(toggles: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Join what the environment and the command line say; the command line wins."""
    environment = {name: (value, "environment") for name, value in from_environment().items()}
    return environment | {name: (value, "command line") for name, value in toggles.items()}


def _settings(toggles: dict[str, str]) -> tuple[Settings, set[str]]:
    """Return the settings of one service for manual use, and the ports that were asked for."""
    env = env_file.ensure()
    overrides = _overrides(toggles)
    values = {**host_defaults(), **env, **{n: v for n, (v, _) in overrides.items()}}
    sources = dict.fromkeys(env, ".env") | {n: source for n, (_, source) in overrides.items()}
    settings = build(values, sources)
    config.check_combination(settings)
    return settings, select.ports_asked_for(env, overrides)


@app.command()
def setup() -> None:
    """Make .env and fetch the server programs; `make bench` does so by itself."""
    env_file.ensure()
    # Else the Docker engine would make it, as root, when `docker compose up` mounts it.
    (ROOT / ".lab" / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    home = locate()
    with locked(home, "make setup"):
        select.programs(home, console)


@app.command()
def bench(words: Words = None) -> None:
    """Run a preset: PRESET=quick, RESUME=<run_id>; any toggle narrows it or becomes an axis."""
    options, toggles = _split(words)
    request = runner.Request(
        preset=options.get("PRESET", "quick"),
        overrides=_overrides(toggles),
        env_file=env_file.ensure(),
        command=shlex.join(["make", "bench", *(words or [])]),
        resume=options.get("RESUME") or None,
    )
    run = None
    if request.resume:
        request, run = runner.resumed(request, RESULTS)
    planned = runner.plan(request)
    home = locate()
    with locked(home, request.command):
        manual.refuse_if_up(home)
        left = [] if run else runner.interrupted(RESULTS)
        asked_for = select.ports_asked_for(request.env_file, request.overrides)
        run = run or results.create(
            RESULTS, runner.new_run_id(request.preset, RESULTS, time.time())
        )
        try:
            code = _run(request, planned, run, home, asked_for, left[-1:])
        finally:
            runner.settle(run)
    raise typer.Exit(code)


def _run(
    request: runner.Request, planned: config.Plan, run: results.Run, home: Home,
    asked_for: set[str], left: list[tuple[str, int, int]],
) -> int:  # fmt: skip
    cells = [runner.as_started(run, cell.settings) for cell in planned.cells]
    title = f"{len(cells)} cells"
    with watching.stack_of_run(home, run, cells, asked_for, console, title) as stack:
        for run_id, done, of in left:
            hint = f"`make bench RESUME={run_id}` goes on"
            console.print(f"run {run_id} was interrupted at {done} of {of} cells: {hint}")
        code = runner.execute(request, stack, planned, run, console)
    report.show(run, console)
    console.print("`make diagnose` says what limits each cell and what to change", highlight=False)
    watching.look_again(run, console)
    return code


@app.command(name="ladder")
def ladder_(words: Words = None) -> None:
    """Write by every rung: RUNGS=2-B,3-D TARGET_TPS=max DURATION=8 BATCH= POOL= ROUTE= DB_CPUS=."""
    raise typer.Exit(ladder.run(words or [], locate(), console))


@app.command(name="ladder-crash")
def ladder_crash(words: Words = None) -> None:
    """Kill PostgreSQL in mid-write on every rung, and count what is lost."""
    raise typer.Exit(ladder.run(words or [], locate(), console, crash=True))


@app.command()
def up(words: Words = None) -> None:
    """Start one service (FRAMEWORK, ROUTE, ...) with the whole monitoring and leave it running."""
    _, toggles = _split(words)
    settings, asked_for = _settings(toggles)
    home = locate()
    with (
        locked(home, "make up"),
        watching.Watching(
            home, console, manual.RUN_ID, monitored=settings.monitoring == "on",
            page=settings.watch_page == "on", left=True,
        ) as watched,
    ):  # fmt: skip
        manual.up(home, settings, asked_for, console, watched)


@app.command()
def load(words: Words = None) -> None:
    """Put load on what `make up` started: USERS=50 FOR=120 SCENARIO= SPAWN_RATE=."""
    options, toggles = _split(words)
    asked = manual_load.wanted(options, _overrides(toggles), env_file.ensure())
    home = locate()
    with locked(home, "make load"):
        try:
            manual_load.run(home, asked, console)
        except Interrupted as error:
            print(f"lab: load ended by {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None


@app.command()
def monitoring(words: Words = None) -> None:
    """Show a run that has ended in Grafana, or on the live page, by its samples: RUN=latest."""
    options, toggles = _split(words)
    run = results.find(RESULTS, options.get("RUN") or "latest")
    settings, asked_for = _settings(toggles)
    home = locate()
    with locked(home, "make monitoring"):
        kept.show(home, run, settings, asked_for, console)


@app.command()
def down() -> None:
    """End what `make up` or `make monitoring` started."""
    home = locate()
    with locked(home, "make down"):
        manual.down(home, console)


@app.command()
def status() -> None:
    """Say what runs, and where."""
    manual.status(locate(), console)


@app.command()
def logs(words: Words = None) -> None:
    """Print the end of the servers' logs: SERVICE=postgres, LINES=50."""
    options, _ = _split(words)
    manual.logs(locate(), options.get("SERVICE"), options.get("LINES", "20"), console)


@app.command()
def seed(words: Words = None) -> None:
    """Make database, roles and data ready; sizes are SEED_USERS, SEED_POSTS, SEED_COMMENTS."""
    _, toggles = _split(words)
    settings, asked_for = _settings(toggles)
    home = locate()
    with locked(home, "make seed"):
        manual.refuse_if_up(home)
        stack = select.open_stack(home, settings, asked_for, console)
        try:
            stack.prepare(settings)
        finally:
            stack.stop()


@app.command(name="report")
def report_(words: Words = None) -> None:
    """Write tables and plots of a run again: RUN=latest."""
    options, _ = _split(words)
    run = results.find(RESULTS, options.get("RUN", "latest"))
    of = ladder_report if ladder_report.is_ladder(run) else report
    for path in of.write(run):
        console.print(str(path), highlight=False)
    run.write_manifest(run.manifest())
    of.show(run, console)


@app.command()
def snapshot(words: Words = None) -> None:
    """Write a run's dashboards as files that open anywhere: RUN, CELL, DASHBOARD, PNG=1."""
    from lab.snapshot import command

    options, _ = _split(words)
    run = results.find(RESULTS, options.get("RUN", "latest"))
    command.make(run, command.wanted(options, locate()), console)


@app.command()
def watch(words: Words = None) -> None:
    """Show the dashboards live in a browser, without Grafana: PORT=9300, PROMETHEUS_URL."""
    from lab.snapshot import live

    options, _ = _split(words)
    live.watch(locate(), live.wanted(options), console)


@app.command()
def diagnose(words: Words = None) -> None:
    """Say what limits a run's cells: RUN=latest CELL=...; LIVE=1 what runs now.

    Exit code 0: diagnosed; 3: a verdict is unclear; 2: nothing to diagnose.
    """
    from lab.diagnosis import command

    options, _ = _split(words)
    raise typer.Exit(command.diagnose(options, RESULTS, locate(), console))


@app.command(name="diagnosis-suite")
def diagnosis_suite(words: Words = None) -> None:
    """Make faults on purpose and count right verdicts: CLASSES=..., EACH=10, FAULTS_SEED=...

    REMEDIES=off leaves out the remedies; RUN=... judges a stored run's cells again.
    """
    from lab.diagnosis.experiments import session, suite

    options, toggles = _split(words)
    lab = session.Lab(locate(), RESULTS, env_file.ensure(), console)
    raise typer.Exit(suite.suite(options, toggles, lab))


@app.command()
def confirm(words: Words = None) -> None:
    """Run a cell against its remedy in pairs: RUN=latest CELL=... PAIRS=5.

    Exit code 0: confirmed; 4: refuted; 5: not significant.
    """
    from lab.diagnosis.experiments import confirm as experiment
    from lab.diagnosis.experiments import session

    options, toggles = _split(words)
    lab = session.Lab(locate(), RESULTS, env_file.ensure(), console)
    raise typer.Exit(experiment.confirm(options, toggles, lab))


@app.command()
def tune(words: Words = None) -> None:
    """Diagnose, change, measure, from the worst start: SLO_P95_MS=, TARGET_RPS=, STEPS=8."""
    from lab.diagnosis.experiments import session
    from lab.diagnosis.experiments import tune as experiment

    options, toggles = _split(words)
    lab = session.Lab(locate(), RESULTS, env_file.ensure(), console)
    raise typer.Exit(experiment.tune(options, toggles, lab))


@app.command()
def reset() -> None:
    """Remove the lab's data and logs; programs, .env and results stay."""
    home = locate()
    with locked(home, "make reset"):
        manual.down(home, console)
        manual.forget(home)
    console.print(f"removed data and logs below {home.root}", highlight=False)


@app.command()
def images_offline(words: Words = None) -> None:
    """Build the images of the compose stack without pulling any; WRITE=.env sets them there."""
    options, _ = _split(words)
    written = offline.env_file(options["WRITE"]) if options.get("WRITE") else None
    home = locate()
    try:
        with locked(home, "make images-offline"):
            offline.build_all(home, console)
        offline.tell(written, console)
    finally:
        offline.give_back(home)


@app.command(name="doctor")
def doctor_() -> None:
    """Check host, limits, ports, programs and versions; say what is wrong and what to do."""
    raise typer.Exit(doctor.examine(locate(), console))


@app.command()
def presets() -> None:
    """List the presets."""
    for name, description in config.presets().items():
        console.print(f"[bold]{name:<18}[/] {description}", highlight=False)


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code, never a traceback."""
    handler = RichHandler(
        console=Console(stderr=True, width=WIDTH), show_path=False, show_time=False
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("lab").setLevel(logging.INFO)
    if os.geteuid() == 0:
        os.umask(0o022)  # servers that drop root enter the folders that are made
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as error:
        print(f"lab: ended by {error}; accepted cells are kept", file=sys.stderr)
        sys.exit(error.exit_code)
