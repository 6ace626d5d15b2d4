"""`make monitoring`: a run that has ended, in Grafana or on the live page, by its kept samples."""

from __future__ import annotations

from rich.console import Console

from lab.errors import ResultError
from lab.ladder import records as ladder
from lab.results import Run
from lab.settings import Settings
from lab.snapshot import archive
from lab.stack import manual, select, state
from lab.stack.base import Stack
from lab.stack.home import Home
from lab.watching import LADDER, OVERVIEW, Watching


def show(home: Home, run: Run, settings: Settings, asked_for: set[str], console: Console) -> None:
    """Start Prometheus over a run's samples, and what shows them; leave both running.

    Raises ConfigError while something runs, and ResultError where the samples are gone.
    """
    manual.refuse_if_up(home)
    manifest = run.manifest()
    began, ended = archive.stretch(run)
    uid = LADDER if ladder.is_ladder(manifest) else OVERVIEW
    chosen = settings.model_copy(update={"stack": manifest.stack, "monitoring": "on"})
    # The page is what was asked for here, whatever WATCH_PAGE says of runs.
    with Watching(home, console, run.run_id, uid, left=True, began=began, ended=ended) as watching:

        def first(stack: Stack) -> None:
            if not stack.keeps(run.run_id):
                raise ResultError(
                    f"Prometheus has no samples of run {run.run_id} any more; {_otherwise(run)}"
                )
            watching.say(stack)

        ports = asked_for & {"PROMETHEUS_PORT", "GRAFANA_PORT"}  # nothing else is started
        stack = select.open_stack(home, chosen, ports, console, detached=True, first=first)
        try:
            endpoints = stack.look_back(chosen, run.run_id)
            where = watching.running(stack)
            lines = [("watch", where)] if where else []
            lines += [("prometheus", str(endpoints.prometheus))]
            lines += [("grafana", endpoints.grafana)] if endpoints.grafana else []
            state.write(home, state.Left(state.MONITORING, stack.name, lines))
        except BaseException:
            stack.stop()
            raise
    console.print("`make down` ends it")


def _otherwise(run: Run) -> str:
    if (run.folder / archive.NAME).is_file():
        return f"`make snapshot RUN={run.run_id}` shows what its dashboards showed"
    return "measure again"
