"""The table at the end of a run, for a terminal or as plain text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.report import wording
from lab.report.groups import Group, View

#: Width that fits a usual terminal; plain text is always this wide.
WIDTH = 100
#: Spaces between columns.
BETWEEN = 2


@dataclass(frozen=True)
class Column:
    """A column; those with the highest `rank` go first where the terminal is narrow."""

    heading: str
    text: Callable[[Group], str]
    rank: int = 0
    words: bool = False


def show(view: View, console: Console) -> None:
    """Print the table, reasons of rejected cells and what else a reader must know."""
    # What is not for a terminal is cut by nobody, so it need not be narrower than this.
    plain = not console.is_terminal
    width = max(WIDTH, console.width) if plain else console.width
    table = Table(
        title=" · ".join(wording.constants(view)),
        title_justify="left",
        title_style="" if plain else "dim",
        box=None if plain else box.SIMPLE_HEAD,
        padding=(0, BETWEEN if plain else BETWEEN - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    columns = _fitting(view, width)
    for column in columns:
        side: Literal["left", "right"] = "left" if column.words else "right"
        table.add_column(column.heading, justify=side, overflow="fold", no_wrap=not column.words)
    for group in view.groups:
        style = "" if group.accepted else "dim"
        table.add_row(*(Text(column.text(group), style=style) for column in columns))
    console.print(table, width=width if plain else None)
    for text in notes(view):
        console.print(text, soft_wrap=True, highlight=False)


def text(view: View) -> str:
    """Return what `show` prints where there is no terminal."""
    buffer = io.StringIO()
    show(view, Console(file=buffer, width=WIDTH, force_terminal=False, color_system=None))
    return buffer.getvalue()


def notes(view: View) -> list[Text]:
    """Return the lines below the table."""
    lines = []
    if not view.limits_enforced:
        reason = f": {view.manifest.limits_reason}" if view.manifest.limits_reason else ""
        some = " in every cell" if view.manifest.limits else ""
        lines.append(Text(f"limits not enforced{some}{reason}", style="bold red"))
    for record in view.rejected:
        reasons = "; ".join(record.reject_reasons) or "no reason"
        lines.append(Text.assemble(("rejected ", "yellow"), f"{record.cell_id}: {reasons}"))
    if view.not_measured:
        count = f"{len(view.not_measured)} of {len(view.manifest.cells)} cells not measured"
        lines.append(Text(f"{count}; make bench RESUME={view.manifest.run_id}", style="yellow"))
    if any(group.measured and not group.accepted for group in view.groups):
        lines.append(Text(wording.DOUBT, style="dim"))
    low, high = view.repetitions
    if high > 1:
        lines.append(Text(f"means of {low if low == high else f'{low} to {high}'} repetitions"))
    return lines


def _columns(view: View) -> list[Column]:
    """Return every column; CPU is in per cent of the limit."""
    main = {
        "FRAMEWORK": Column(
            "framework", lambda g: wording.framework(g.axes["FRAMEWORK"]), words=True
        ),
        "ROUTE": Column("route", lambda g: g.axes["ROUTE"], words=True),
        "USERS": Column("users", lambda g: f"{g.axes['USERS']:,}"),
    }
    varying = {n: column for n, column in main.items() if len(view.levels[n]) > 1}
    shown = list((varying or ({} if view.varying else main)).values())
    for name in view.varying:
        shown.append(_axis(name))
    if view.repetitions[1] > 1:
        shown.append(Column("n", lambda g: str(len(g.accepted)), rank=3))
    return [
        *shown,
        Column("RPS", _with_interval),
        _field("P50 ms", "p50_ms", rank=4),
        _field("P95 ms", "p95_ms"),
        _field("P99 ms", "p99_ms", rank=2),
        _field("err", "error_rate", wording.percent, rank=1),
        _field("conn/rq", "new_connections_per_request", wording.per_request, rank=1),
        _field("wait ms", "pool_wait_ms", rank=2),
        _field("DB", "db_cpu", wording.percent, rank=1),
        _field("app", "app_cpu", wording.percent, rank=1),
        _field("pgb", "pgbouncer_cpu", wording.percent, rank=3),
        Column("status", lambda g: g.status.replace(" rejected", " rej.") if g.accepted
               else g.status, words=True),
    ]  # fmt: skip


def _axis(name: str) -> Column:
    return Column(wording.toggle(name), lambda g: wording.value(g.axes[name]), words=True)


def _field(
    heading: str, name: str, text: Callable[[float], str] = wording.number, rank: int = 0
) -> Column:
    return Column(heading, lambda group: wording.figure(group, name, text), rank)


def _with_interval(group: Group) -> str:
    """Return the throughput with half the width of its interval."""
    estimate = group.estimate("rps")
    if estimate is None:
        return wording.figure(group, "rps")
    if estimate.low is None or estimate.high is None:
        return wording.number(estimate.value)
    half = (estimate.high - estimate.low) / 2
    return (
        f"{wording.number(estimate.value)} ±{half / estimate.value:.0%}" if estimate.value else "0"
    )


def _fitting(view: View, width: int) -> list[Column]:
    """Return the columns that fit, leaving out the least important ones."""
    columns = _columns(view)
    while sum(_width(column, view) + BETWEEN for column in columns) - BETWEEN > width:
        worst = max(columns, key=lambda column: column.rank)
        if not worst.rank:
            break
        columns.remove(worst)
    return columns


def _width(column: Column, view: View) -> int:
    """Return the letters a column takes; the heading of a column of words may wrap."""
    words = column.heading.split() if column.words else [column.heading]
    return max(map(len, [*words, *(column.text(group) for group in view.groups)]))
