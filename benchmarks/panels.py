"""How long Prometheus takes for all panels of the overview over 15 minutes.

A minute of a real run is repeated to a quarter of an hour and given to a Prometheus of its own: the
same series and the same density as after 15 minutes of load, without waiting for them.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from lab.prometheus import Prometheus
from lab.settings import Settings
from lab.stack import servers
from lab.stack.base import Moment, Story
from lab.stack.native import NativeStack
from lab.stack.ports import free
from lab.stack.process import tail
from lab.stack.ready import wait_until
from lab.stack.toolchain import Toolchain
from monitoring.signals import EVALUATION_INTERVAL_S

FILE = Path(__file__).parents[1] / "monitoring" / "grafana" / "dashboards"
SAMPLE_S = 60
RANGE_S = 15 * 60
STEP_S = 5
ROUNDS = 7
#: What panels read: recorded signals, and the few series that are not recorded.
SERIES = '{__name__=~"poolscope:.+|lab_.+|ALERTS|up"}'

Series = list[dict[str, Any]]


def sample(stack: NativeStack, settings: Settings) -> Series:
    """Load the service for a minute and return every series that panels read."""
    endpoints = stack.start(settings)
    assert endpoints.prometheus is not None
    cell = {"run_id": "benchmark", "cell_id": "panels", "framework": settings.framework}
    stack.announce({**cell, "route": settings.route, "users": str(settings.users)})
    moments = (Moment("benchmark", "panels", "cell_start", time.time()),)
    stack.publish(Story(moments))
    with tempfile.TemporaryDirectory() as folder:
        load = stack.load(settings, Path(folder), 2 * SAMPLE_S)
        try:
            time.sleep(SAMPLE_S + 10)  # the rates need their first windows
        finally:
            load.stop()
    end = time.time() - 5
    prometheus = Prometheus(endpoints.prometheus)
    return prometheus.query_range(SERIES, end - SAMPLE_S, end, EVALUATION_INTERVAL_S)


def queries(uid: str, end: float) -> list[tuple[str, dict[str, Any]]]:
    """Return the requests that Grafana makes for a dashboard, with all variables at `All`."""
    page = json.loads((FILE / f"{uid}.json").read_text())
    found: list[tuple[str, dict[str, Any]]] = []
    for panel in page["panels"]:
        for target in panel.get("targets", []):
            expr = re.sub(r"\$(framework|route|run)\b", ".*", target["expr"])
            expr = expr.replace("$__range", f"{RANGE_S}s").replace("$__rate_interval", "15s")
            if target["instant"]:
                found.append(("query", {"query": expr, "time": end}))
            else:
                span = {"start": end - RANGE_S, "end": end, "step": STEP_S}
                found.append(("query_range", {"query": expr, **span}))
    return found


def asked(url: str, uid: str, end: float) -> tuple[list[float], int]:
    """Ask all queries of a dashboard, one after the other, several times.

    Return the milliseconds of each round, and how many queries had data: an empty answer is quick.
    """
    took, found = [], 0
    wanted = queries(uid, end)
    with httpx.Client(base_url=f"{url}/api/v1/", trust_env=False, timeout=30) as client:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answers = [client.post(path, data=form).raise_for_status() for path, form in wanted]
            took.append((time.perf_counter() - began) * 1000)
            found = sum(bool(answer.json()["data"]["result"]) for answer in answers)
    return took, found


@contextmanager
def prometheus_with(tools: Toolchain, series: Series, end: float) -> Iterator[str]:
    """Run a Prometheus that has the series repeated up to `end`; yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "samples").write_text("".join(_openmetrics(series, end)) + "# EOF\n")
        fill = [str(tools.programs["promtool"]), "tsdb", "create-blocks-from", "openmetrics"]
        subprocess.run(
            [*fill, str(data / "samples"), folder], check=True, capture_output=True,
            env=tools.env("promtool"),
        )  # fmt: skip
        (data / "prometheus.yml").touch()
        port = next(port for port in range(9400, 9500) if free(port))
        log = data / "prometheus.log"
        command = [str(tools.programs["prometheus"]), f"--config.file={data / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=tools.env("prometheus")
            )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(
                partial(servers.http_answers, f"{url}/-/ready"), "prometheus", 60,
                alive=lambda: process.poll() is None, tail=lambda: tail(log, 20),
                errors=(OSError, httpx.HTTPError),
            )  # fmt: skip
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _openmetrics(series: Series, end: float) -> Iterable[str]:
    """Yield the samples as text, the minute repeated backwards from the end."""
    for one in series:
        labels = dict(one["metric"])
        name = labels.pop("__name__")
        shown = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
        last = max(at for at, _ in one["values"])
        for turn in reversed(range(RANGE_S // SAMPLE_S + 1)):
            shift = end - last - turn * (SAMPLE_S + EVALUATION_INTERVAL_S)
            for at, value in one["values"]:
                yield f"{name}{{{shown}}} {value} {at + shift:.3f}\n"


def measure(stack: NativeStack, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield a line for the overview, and one for the matrix."""
    series = sample(stack, settings)
    assert stack.tools is not None
    end = float(int(time.time()))
    with prometheus_with(stack.tools, series, end) as url:
        for uid, wanted in (("poolscope-overview", "at most 300 ms"), ("poolscope-matrix", "")):
            took, found = asked(url, uid, end)
            shown = f"median {statistics.median(took):.0f} ms, most {max(took):.0f} ms"
            what = f"{uid}: {len(queries(uid, end))} queries, {found} of them with data"
            yield f"{what}, 15 minutes at {STEP_S} s", shown, wanted
