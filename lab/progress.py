"""What a run shows while it runs: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lab.config import Cell
from lab.results import CellRecord
from lab.stack.base import Endpoints

#: What a cell costs beside warm-up and window, until the first one has been timed; seconds.
FIRST_GUESS_S = 5.0


class RunProgress:
    """Cells done, the phase of the one that runs, its live figures, and the time left."""

    def __init__(self, console: Console, cells: list[Cell]) -> None:
        self.console = console
        self._left = [c.settings.warmup + c.settings.window for c in cells]
        self._overheads: list[float] = []
        self._began = time.monotonic()
        self._phase = ""
        self._figures = ""
        self._cell: Cell | None = None
        self._said: set[tuple[str, str]] = set()
        #: Where the last cell's Prometheus answers; None where it ran without.
        self.prometheus: str | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("cells", total=len(cells), detail="")

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        self.console.print(text, highlight=False)

    def begin(self, cell: Cell) -> None:
        """Start on a cell."""
        self._cell, self._began = cell, time.monotonic()
        self._figures = ""

    def end(self, record: CellRecord) -> None:
        """Finish a cell with one line."""
        assert self._cell is not None
        length = self._left.pop(0)
        self._overheads.append(time.monotonic() - self._began - length)
        self._progress.advance(self._task)
        m = record.measurement
        result = "no measurement" if m is None else f"{m.rps:,.0f} RPS"
        if m is not None and m.p95_ms is not None:
            result += f", P95 {m.p95_ms:,.1f} ms, errors {m.error_rate or 0:.1%}"
        mark = "" if record.status == "accepted" else "  REJECTED: " + record.reject_reasons[0]
        self.say(f"{record.cell_id:<34} {result}{mark.splitlines()[0] if mark else ''}")

    def skip(self, cell: Cell) -> None:
        """Count a cell that an earlier start of this run measured."""
        self._left.pop(0)
        self._progress.advance(self._task)
        self.say(f"{cell.cell_id:<34} reused")

    # --- lab.cell.Watcher -----------------------------------------------------------------------

    def started(self, endpoints: Endpoints) -> None:
        """See Watcher: say each address once."""
        self.prometheus = endpoints.prometheus
        prometheus = {"prometheus": endpoints.prometheus} if endpoints.prometheus else {}
        new = {"service": endpoints.service, **prometheus}.items() - self._said
        self._said |= new
        for name, url in sorted(new):
            self.say(f"{name} at {url}")

    def phase(self, name: str, length_s: float | None) -> None:
        """See Watcher."""
        self._phase = name if length_s is None else f"{name} {length_s:.0f} s"
        self._show()

    def tick(self, rps: float, p95_ms: float | None) -> None:
        """See Watcher."""
        self._figures = f" {rps:,.0f} RPS"
        if p95_ms is not None:
            self._figures += f", P95 {p95_ms:,.1f} ms"
        self._show()

    def left_s(self) -> float:
        """Return the expected seconds to the end of the run."""
        each = sum(self._overheads) / len(self._overheads) if self._overheads else FIRST_GUESS_S
        spent = time.monotonic() - self._began if self._cell else 0.0
        return max(0.0, sum(self._left) + each * len(self._left) - spent)

    def _show(self) -> None:
        assert self._cell is not None
        minutes, seconds = divmod(round(self.left_s()), 60)
        self._progress.update(
            self._task,
            description=self._cell.cell_id,
            detail=f"{self._phase}{self._figures}  {minutes}:{seconds:02d} left",
        )
