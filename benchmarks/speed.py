"""What the lab itself costs, and the ratios that it was built to show.

`make benchmarks` measures every line (about 40 minutes); `python -m benchmarks.speed cells
answers` some of them. Ratios come from one run each, in random order and interleaved; absolute
figures are of the machine they were measured on.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import pages, panels
from lab import ceiling, env_file, interrupts, results, stats
from lab.paths import RESULTS, ROOT
from lab.results import CellRecord
from lab.runner import EXIT_REJECTED
from lab.settings import FRAMEWORKS, PORT_FIELDS, Settings, build, host_defaults
from lab.stack import docker, images
from lab.stack.compose_settings import build as build_image
from lab.stack.compose_settings import environment
from lab.stack.home import Home, locate, locked
from lab.stack.native import NativeStack
from lab.stack.ports import allocate
from lab.stack.project import Project, remove_volumes, take_down

Line = tuple[str, str, str]  # what, measured, wanted

ANSWERS = 50
PAIRS = 6
STACK_PAIRS = 2


def bench(*words: str) -> list[CellRecord]:
    """Run the lab and return the records, accepted ones only; rejected ones are said."""
    done = subprocess.run([sys.executable, "-m", "lab", "bench", *words], cwd=ROOT, check=False)
    if done.returncode not in (0, EXIT_REJECTED):
        sys.exit(done.returncode)  # it said why; the newest run is an older one
    records = results.find(RESULTS, "latest").records()
    for record in records:
        if record.status == "rejected":
            print(f"rejected {record.cell_id}: {record.reject_reasons[0]}", file=sys.stderr)
    return [record for record in records if record.status == "accepted"]


def ratio(records: Iterable[CellRecord], framework: str, axis: str, over: str, under: str) -> str:
    """Return the median RPS ratio of pairs of the same repetition, with its interval."""
    rps: dict[tuple[str, int], float] = {}
    for r in records:
        if r.framework == framework and r.measurement is not None:
            rps[str(r.settings[axis]), r.repetition] = r.measurement.rps
    pairs = [(rps[over, n], rps[under, n]) for v, n in rps if v == over and (under, n) in rps]
    if not pairs:
        return "no accepted pair"
    found = stats.paired_ratio([a for a, _ in pairs], [b for _, b in pairs])
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.value:.3f}{interval}, {len(pairs)} pairs"


def cells() -> Iterable[Line]:
    """Time a cell beside its warm-up and window."""
    costs = [
        sum(r.phases_s.values()) - r.settings["WARMUP"] - r.settings["WINDOW"]
        for r in bench("PRESET=smoke")
    ]
    shown = f"median {statistics.median(costs):.1f} s, most {max(costs):.1f} s"
    yield "a cell beside warm-up and window", shown, "at most 5 s"


def instrumentation() -> Iterable[Line]:
    """Compare throughput with and without the services' instrumentation."""
    records = bench("PRESET=overhead")
    for name in FRAMEWORKS:
        yield (
            f"RPS, METRICS on / off, {name}",
            ratio(records, name, "METRICS", "on", "off"),
            "at least 0.95",
        )


def monitoring() -> Iterable[Line]:
    """Compare throughput with and without Prometheus and the exporters."""
    records = bench("PRESET=monitoring")
    for name in FRAMEWORKS:
        shown = ratio(records, name, "MONITORING", "on", "off")
        yield f"RPS, MONITORING on / off, {name}", shown, "at least 0.97"


def connections() -> Iterable[Line]:
    """Count new connections per request by the service and by PostgreSQL."""
    for record in bench("PRESET=connect", "ROUTE=direct", "REPETITIONS=1"):
        m = record.measurement
        assert m is not None
        pool = record.settings["DB_POOL"]
        shown = f"{m.new_connections_per_request:.3f} and {m.new_sessions_per_request:.3f}"
        wanted = "1.00 +- 0.02" if pool == "per-request" else "under 0.01"
        yield f"new connections per request, {record.framework}, {pool}", shown, wanted


def authentication() -> Iterable[Line]:
    """Compare connecting per request through PgBouncer with connecting directly."""
    records = bench("PRESET=auth", "SCRAM_ITERATIONS=4096", "REPETITIONS=3")
    for kind in ("md5", "scram-sha-256"):
        chosen = [r for r in records if r.settings["PGBOUNCER_AUTH_TYPE"] == kind]
        for name in FRAMEWORKS:
            shown = ratio(chosen, name, "ROUTE", "pgbouncer", "direct")
            wanted = "at least 5" if kind == "md5" else "(shown)"
            yield f"RPS, pgbouncer / direct, per request, {kind}, {name}", shown, wanted


def answers() -> Iterable[Line]:
    """Time answers of /metrics with 4 workers, and of Poolscope's exporter."""
    with prepared() as (stack, make):
        for name in FRAMEWORKS:
            endpoints = stack.start(make(FRAMEWORK=name, ROUTE="pgbouncer", WORKERS="4"))
            with httpx.Client(trust_env=False) as client:
                for _ in range(200):
                    client.get(f"{endpoints.service}/benchmark/db-test")
            shown = _timed(endpoints.metrics["service"])
            yield f"/metrics of {name}, 4 workers", shown, "at most 30 ms"
        yield "Poolscope's exporter", _timed(endpoints.metrics["poolscope"]), "at most 20 ms"


def dashboards() -> Iterable[Line]:
    """Time all panel queries of the overview, as Grafana asks them."""
    with prepared() as (stack, make):
        yield from panels.measure(stack, make(ROUTE="pgbouncer", USERS="20"))


def snapshots() -> Iterable[Line]:
    """Time the snapshot of the newest quick run, measuring one where there is none."""
    found = sorted(path for path in RESULTS.glob("*-quick") if (path / "panels.json.gz").is_file())
    if not found:
        bench("PRESET=quick")
    run = results.find(RESULTS, found[-1].name if found else "latest")
    yield from pages.measure(run)


def proxy() -> Iterable[Line]:
    """Compare pgbench with 20 persistent clients through PgBouncer and directly."""
    with prepared() as (stack, make):
        settings = make(ROUTE="pgbouncer")
        endpoints = stack.start_database(settings)
        tps: dict[str, list[float]] = {"pgbouncer": [], "direct": []}
        for pair in range(PAIRS):
            for route in sorted(tps, reverse=bool(pair % 2)):
                role, password = endpoints.service_role, endpoints.service_password
                target = ceiling.Target(route, endpoints.database, role, password)
                found = ceiling.measure(stack.pgbench(), target, "simple", settings)
                assert found.tps is not None
                tps[route].append(found.tps)
    r = stats.paired_ratio(tps["pgbouncer"], tps["direct"])
    interval = f"({r.low:.2f} to {r.high:.2f})" if r.low is not None else ""
    yield "pgbench, pgbouncer / direct, 20 clients", f"{r.value:.2f} {interval}", "at least 0.9"


def containers() -> Iterable[Line]:
    """Time `docker compose up`, and compare a cell's throughput on both stacks, interleaved."""
    yield "docker compose up, all healthy, new data", f"{_compose_up_s():.0f} s", "at most 45 s"
    rps: dict[tuple[str, str], list[float]] = {}
    words = ("PRESET=smoke", "FRAMEWORK=fastapi,flask", "ROUTE=direct", "WARMUP=3", "WINDOW=10",
             # "auto" is on where this stack's PgBouncer can, and the two may have different ones
             "DB_PREPARED=off")  # fmt: skip
    for pair in range(STACK_PAIRS):
        for stack in sorted(("native", "compose"), reverse=bool(pair % 2)):
            for record in bench(*words, f"STACK={stack}"):
                assert record.measurement is not None
                rps.setdefault((record.framework, stack), []).append(record.measurement.rps)
    for name in sorted({framework for framework, _ in rps}):
        native, compose = rps.get((name, "native"), []), rps.get((name, "compose"), [])
        shown = "no accepted pair"
        if native and compose:
            ratio_ = statistics.median(compose) / statistics.median(native)
            figures = f"{[round(x) for x in compose]} / {[round(x) for x in native]}"
            shown = f"{ratio_:.3f}, {figures}"
        yield f"RPS, compose / native, {name}", shown, "0.85 to 1.15"


def _compose_up_s() -> float:
    """Start the whole stack anew by docker compose alone; return the seconds to all healthy."""
    home = Home(Path(tempfile.mkdtemp(prefix="poolscope-speed-")))
    settings = build({**host_defaults(), **env_file.ensure()})
    away = {name: getattr(settings, name) + 20_000 for name in PORT_FIELDS}  # from others' choice
    placed = settings.model_copy(update=allocate(settings.model_copy(update=away), ()))
    found = images.resolve(home, placed, lambda service: build_image(home, placed, service))
    project = Project(home, environment(home, placed) | found.chosen)
    project.env |= {"STATE_DIR": str(home.root), "COMPOSE_PROFILES": placed.framework}
    project.record()
    words = project.command("up", "--detach", "--wait", "--no-build")
    words = [word for word in words if word not in ("--profile", "*")]  # as COMPOSE_PROFILES says
    began = time.monotonic()
    try:
        docker.run(words, project.env)
        return time.monotonic() - began
    finally:
        take_down(home)
        remove_volumes(home)
        shutil.rmtree(home.root, ignore_errors=True)


@contextmanager
def prepared() -> Iterator[tuple[NativeStack, Callable[..., Settings]]]:
    """Give a prepared stack for the length of a block, and a maker of settings."""
    home = locate()
    env = {**host_defaults(), **env_file.ensure(), "DB_PREPARED": "off", "MAX_REQUESTS": "0"}

    def make(**toggles: str) -> Settings:
        return build({**env, **toggles})

    with locked(home, "make benchmarks"):
        stack = NativeStack.open(home, make(), set())
        try:
            stack.prepare(make())
            yield stack, make
        finally:
            stack.stop()


def _timed(url: str) -> str:
    took = []
    with httpx.Client(trust_env=False) as client:
        for _ in range(ANSWERS):
            began = time.perf_counter()
            client.get(url).raise_for_status()
            took.append((time.perf_counter() - began) * 1000)
    return f"median {statistics.median(took):.1f} ms, most {max(took):.1f} ms"


PARTS: dict[str, Callable[[], Iterable[Line]]] = {
    part.__name__: part
    for part in (
        *(answers, dashboards, snapshots, proxy, cells, connections),
        *(instrumentation, monitoring, authentication, containers),
    )
}


def main() -> None:
    """Measure the named parts, all without names, and print the table."""
    interrupts.install()
    os.chdir(ROOT)
    table = Table("what", "measured", "wanted", title="Poolscope: speed")
    if unknown := [name for name in sys.argv[1:] if name not in PARTS]:
        sys.exit(f"PARTS={unknown[0]} is not known; parts: {', '.join(PARTS)}")
    for name in sys.argv[1:] or PARTS:
        for line in PARTS[name]():
            table.add_row(*line)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
