"""All sources as one prometheus_client collector, each failing by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitoring.exporter.due import TARGETS, Due
from monitoring.exporter.reading import FAILURES, Reading, Source, gauge

log = logging.getLogger("poolscope.exporter")


@dataclass
class Outcome:
    """A reading, and how long it took; `reading` is empty until there is one."""

    reading: Reading = field(default_factory=Reading)
    seconds: float | None = None


def read_once(source: Source, clock: Callable[[], float]) -> Outcome:
    """Read a source; a failure becomes a problem of its reading."""
    start = clock()
    try:
        reading = source.read()
    except FAILURES as error:
        reading = Reading(problems=[str(error) or type(error).__name__])
    return Outcome(reading, clock() - start)


class PatientCall:
    """Reads a source that asks another program, and does not wait for it longer than allowed.

    A server that is throttled or stopped would otherwise hold back the figures of all others. The
    call runs in a thread of its own; while one is still stuck no second one is begun.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._answers: list[Outcome] = []

    def begin(self) -> None:
        """Start reading, unless the last reading is still under way."""
        # A list of its own for each call: an answer that comes too late belongs to no scrape.
        self._answers = []
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, args=(self._answers,), daemon=True)
            self._thread.start()

    def _run(self, answers: list[Outcome]) -> None:
        answers.append(read_once(self._source, self._clock))

    def end(self, timeout_s: float) -> Outcome:
        """Return the outcome, or say that there was none in time.

        A fault of the source itself ends its thread with a traceback, and so without an answer.
        """
        assert self._thread is not None
        self._thread.join(max(timeout_s, 0))
        if not self._answers:
            return Outcome(Reading(problems=["no answer within the deadline"]))
        return self._answers[0]


class PoolscopeCollector(Collector):
    """Reads the local sources at once, then waits for the remote ones up to the deadline.

    A remote source bears the name of the server that it asks. Where that is not due, it is not
    asked and has no `poolscope_collector_up`, and `poolscope_collector_due` is 0; for scrape jobs
    `poolscope_target_due` says the same.

    Local ones (files) come first, also where an earlier scrape still waits for the remote ones:
    every figure gets the time at which its scrape began, and a CPU counter read late would show
    more use than there was.
    """

    def __init__(
        self,
        local: Iterable[Source],
        remote: Iterable[Source],
        deadline_s: float,
        clock: Callable[[], float] = time.perf_counter,
        due: Callable[[], Due] = Due,
    ) -> None:
        self._due = due
        self._local = list(local)
        self._remote = {source.name: PatientCall(source, clock) for source in remote}
        self._deadline_s = deadline_s
        self._clock = clock
        self._reading_local, self._asking = threading.Lock(), threading.Lock()
        self._problems: dict[str, bool] = {}

    def describe(self) -> list[Metric]:
        """Say nothing beforehand, so that registering does not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what all sources give now; scrapes at the same time follow one another."""
        with self._reading_local:
            outcomes = {source.name: self._read(source) for source in self._local}
        with self._asking:
            asked = self._remote_due()
            answers = self._ask(asked)
            # Who was stopped meanwhile was no longer due before it was told to: it is not down.
            still = self._remote_due()
        outcomes |= {name: outcome for name, outcome in answers.items() if name in still}
        for name, outcome in outcomes.items():
            self._note(name, outcome.reading.problems)
            yield from outcome.reading.families
        yield gauge(
            "poolscope_collector_up",
            "1 if the collector had all of its figures",
            ["collector"],
            [((name,), int(not o.reading.problems)) for name, o in outcomes.items()],
        )
        yield gauge(
            "poolscope_collector_duration_seconds",
            "How long the collector took",
            ["collector"],
            [((name,), o.seconds) for name, o in outcomes.items()],
        )
        yield gauge(
            "poolscope_collector_due",
            "1 if what the collector asks runs now; it is not asked else",
            ["collector"],
            [((s.name,), 1) for s in self._local]
            + [((name,), int(name in outcomes)) for name in self._remote],
        )
        targets = self._due().targets
        yield gauge(
            "poolscope_target_due",
            "1 if the server of the scrape job runs now",
            ["target"],  # `job` is Prometheus's own label on whatever it scrapes
            [] if targets is None else [((job,), int(job in targets)) for job in TARGETS],
        )

    def _read(self, source: Source) -> Outcome:
        """Read a local source, once more where it failed: a server may have ended meanwhile.

        What the state file and the process table say would else belong to two moments.
        """
        outcome = read_once(source, self._clock)
        return read_once(source, self._clock) if outcome.reading.problems else outcome

    def _remote_due(self) -> set[str]:
        servers = self._due().servers
        return {name for name in self._remote if servers is None or name in servers}

    def _ask(self, names: Collection[str]) -> dict[str, Outcome]:
        end = self._clock() + self._deadline_s
        calls = {name: call for name, call in self._remote.items() if name in names}
        for call in calls.values():
            call.begin()
        return {name: call.end(end - self._clock()) for name, call in calls.items()}

    def _note(self, name: str, problems: list[str]) -> None:
        """Log when a collector begins or ceases to fail, not at every scrape."""
        failing = bool(problems)
        if self._problems.get(name, False) == failing:
            return
        self._problems[name] = failing
        if failing:
            lines = "; ".join(" ".join(problem.split()) for problem in problems)
            log.warning("collector %s down: %s", name, lines)
        else:
            log.info("collector %s up again", name)
