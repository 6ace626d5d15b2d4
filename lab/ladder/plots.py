"""The ladder's pictures: how far each rung gets, and how the bottleneck moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.ladder import records, summary
from lab.ladder.summary import Ladder, Line
from lab.report import canvas, wording

#: Inches.
ROW, LABEL, TOP, BELOW, WIDTH = 0.3, 2.6, 1.28, 0.5, 12.0
#: By limit; Okabe and Ito's colours, as everywhere.
LIMITS = {
    "connection set-up": "#D55E00",
    "round trips": "#E69F00",
    "commits and WAL": "#CC79A7",
    "generator CPU": "#0072B2",
    "database CPU": "#009E73",
    "a busy host": "#56B4E9",
    "the intended rate": "#8a8a8a",
    "not known": "#4d4d4d",
}
#: Where the time of a write goes; the same colours where the limit is the same.
PARTS = {
    "connecting": LIMITS["connection set-up"],
    "client": LIMITS["round trips"],
    "WAL": LIMITS["commits and WAL"],
    "computing": LIMITS["database CPU"],
    "a core": LIMITS["a busy host"],
    "other waits": "#b9b9b9",
}
PART_NAMES = {
    "connecting": "opening a connection",
    "client": "waiting for client and network",
    "WAL": "waiting for WAL",
    "computing": "computing in PostgreSQL",
    "a core": "waiting for a core",
    "other waits": "other waits",
}
#: The published ladder that this one is measured against: rows per second on 4 cores, other
#: hardware, so only its ratios to its own first rung are drawn.
REFERENCE = {"1": 70.0, "2": 175.0, "2-B": 5_100.0, "2-C": 17_400.0, "2-D": 17_500.0}


def render(view: Ladder) -> dict[str, bytes]:
    """Return each picture's PNG by its file name; none where nothing was measured."""
    if not any(line.accepted for line in view.rungs):
        return {}
    with canvas.style():
        return {
            "ladder.png": canvas.png(_throughput(view)),
            "ladder_bottleneck.png": canvas.png(_bottleneck(view)),
        }


def _sheet(view: Ladder, title: str, note: str, rows: int) -> canvas.Sheet:
    height = TOP + rows * ROW + BELOW + canvas.FOOT_IN
    page = canvas.Sheet(Figure(figsize=(WIDTH, height), dpi=canvas.DPI, facecolor="white"),
                        WIDTH, height)  # fmt: skip
    page.text(0.25, 0.16, title, fontsize=13, fontweight="bold")
    page.text(0.25, 0.46, note, fontsize=8.5, color=canvas.FAINT)
    m = view.manifest
    foot = f"run {m.run_id} · {wording.hardware(m)} · {records.cpu_limit(m)}"
    page.text(0.25, height - 0.28, foot, fontsize=7, color=canvas.FAINT)
    return page


def _labels(page: canvas.Sheet, lines: Sequence[Line]) -> None:
    for index, line in enumerate(lines):
        middle = TOP + ROW * (index + 0.5)
        short = line.any.method.split(" (LOSES")[0]
        colour = canvas.INK if line.accepted else canvas.FAINT
        name = {records.COPY_CEILING: "\\copy", records.PGBENCH_CEILING: "pgbench"}
        page.text(0.95, middle, name.get(line.name, line.name), ha="right", va="center",
                  fontsize=8.5, fontweight="bold", color=colour)  # fmt: skip
        page.text(1.05, middle, _short(short), va="center", fontsize=7, color=canvas.FAINT)


def _short(text: str, most: int = 38) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(" ,") + "…"


def _frame(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows, 0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=canvas.GRID, linewidth=0.7)
    axes.tick_params(axis="x", length=0)


def _throughput(view: Ladder) -> canvas.Sheet:
    """Bars of rows per second, and beside them the ratio to the first rung."""
    lines = view.lines
    unit = "rows per second that PostgreSQL acknowledged"
    page = _sheet(view, "The write ladder", f"{unit}, logarithmic; colour: what limits the rung",
                  len(lines))  # fmt: skip
    left = LABEL + 0.75
    axes = page.axes(left, TOP, 4.9, ROW * len(lines))
    _frame(axes, len(lines))
    known = [line.rows_per_s for line in lines if line.rows_per_s]
    low = 10 ** (len(str(int(min(known)))) - 1) / 2
    _logarithmic(axes, low, max(known) * 25, "rows per second")
    for index, line in enumerate(lines):
        _bar(axes, view, line, index + 0.5, low)
    ratio = page.axes(left + 5.35, TOP, WIDTH - left - 5.65, ROW * len(lines))
    _frame(ratio, len(lines))
    _ratios(ratio, view, lines)
    _labels(page, lines)
    used = {line.verdict.limit for line in lines if line.verdict}
    handles: list[Any] = [Patch(color=c, label=name) for name, c in LIMITS.items() if name in used]
    handles.append(Patch(color=canvas.REJECTED, label="ceiling"))
    if any(not line.durable for line in lines):
        handles.append(Patch(facecolor="white", edgecolor=canvas.INK, hatch="////",
                             label="may lose acknowledged rows"))  # fmt: skip
    if not all(line.accepted for line in lines):
        handles.append(Patch(facecolor="white", edgecolor=canvas.REJECTED, label="rejected"))
    handles.append(_diamond())
    page.legend(handles, 0.72)
    return page


def _diamond() -> Line2D:
    return Line2D([], [], marker="D", markersize=5, linestyle="none", color="white",
                  markeredgecolor=canvas.INK, label="the reference's ladder")  # fmt: skip


def _logarithmic(axes: Axes, low: float, high: float, label: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [10.0**power for power in range(-1, 9) if low <= 10.0**power <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label, color=canvas.FAINT, labelpad=3)


def _bar(axes: Axes, view: Ladder, line: Line, y: float, low: float) -> None:
    value = line.rows_per_s
    if value is None:
        _words(axes, low, y, "rejected" if line.records else "not measured", plain=False)
        return
    verdict = line.verdict
    colour = canvas.REJECTED if line.is_ceiling else LIMITS[verdict.limit] if verdict else "#777777"
    look: dict[str, Any] = {"color": colour, "linewidth": 0}
    if not line.durable:
        look = {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 0.9}
    axes.barh(y, value - low, left=low, height=0.72, **look)
    share = view.ratio(line, records.COPY_CEILING)
    of = f" · {wording.percent(share)} of \\copy" if share and share >= 0.005 else ""
    _words(axes, value, y, wording.number(value) + ("" if line.name == "ceiling" else of))


def _words(axes: Axes, x: float, y: float, words: str, *, plain: bool = True) -> None:
    axes.annotate(words, (x, y), xytext=(4, 0), textcoords="offset points", va="center_baseline",
                  fontsize=7.6, color=canvas.INK if plain else canvas.FAINT,
                  fontstyle="normal" if plain else "italic", annotation_clip=False,
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 0.4})  # fmt: skip


def _ratios(axes: Axes, view: Ladder, lines: Sequence[Line]) -> None:
    """Dots of the ratio to rung 1, and the reference's."""
    ratios = [view.ratio(line, summary.FIRST) for line in lines]
    most = max([ratio for ratio in ratios if ratio], default=10.0)
    _logarithmic(axes, 0.6, max(most, 250.0) * 5, "times rung 1")
    for index, (line, ratio) in enumerate(zip(lines, ratios, strict=True)):
        y = index + 0.5
        if line.name in REFERENCE:
            own = REFERENCE[line.name] / REFERENCE[summary.FIRST]
            axes.plot([own], [y], marker="D", markersize=8, color="white",
                      markeredgecolor=canvas.INK, linestyle="none", zorder=2)  # fmt: skip
        if ratio is None:
            continue
        verdict = line.verdict
        colour = LIMITS[verdict.limit] if verdict else canvas.REJECTED
        axes.plot([ratio], [y], marker="o", markersize=6, color=colour, linestyle="none", zorder=3)
        _words(axes, ratio, y, f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}")


def _bottleneck(view: Ladder) -> canvas.Sheet:
    """Where a write's time goes, and what CPU it takes, rung by rung."""
    lines = [line for line in view.rungs if line.accepted]
    note = "how the bottleneck moves from rung to rung; right: CPU seconds per second"
    page = _sheet(view, "Where the time of a write goes", note, len(lines))
    left = LABEL + 0.75
    axes = page.axes(left, TOP, 4.9, ROW * len(lines))
    _frame(axes, len(lines))
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    axes.set_xlabel("share of a write's time, as its database connection sees it",
                    color=canvas.FAINT, labelpad=3)  # fmt: skip
    for index, line in enumerate(lines):
        shares = parts(line)
        if not shares:
            _words(axes, 0, index + 0.5, "n/a", plain=False)
        start = 0.0
        for name, share in shares.items():
            axes.barh(index + 0.5, share, left=start, height=0.72, color=PARTS[name], linewidth=0)
            start += share
    cores = page.axes(left + 5.35, TOP, WIDTH - left - 5.65, ROW * len(lines))
    _frame(cores, len(lines))
    _cores(cores, view, lines)
    _labels(page, lines)
    handles: list[Any] = [Patch(color=c, label=PART_NAMES[name]) for name, c in PARTS.items()]
    handles += [
        Patch(color=LIMITS["generator CPU"], label="generator's CPU"),
        Patch(color=LIMITS["database CPU"], label="database's CPU"),
    ]
    page.legend(handles, 0.72)
    return page


def parts(line: Line) -> dict[str, float]:
    """Return the shares of a write's time; opening a connection is seen by the client alone."""
    found = [m for m in line.accepted if m.time_in]
    if not found:
        return {}
    means = {n: sum(m.time_in.get(n, 0.0) for m in found) / len(found) for n in found[0].time_in}
    connecting = line.mean("connect_share") or 0.0
    means["client"] = max(0.0, means["client"] - connecting)
    whole = connecting + sum(means.values())
    means["connecting"] = connecting
    shares = {name: means.get(name, 0.0) for name in PARTS}
    return {name: share / whole for name, share in shares.items()} if whole else {}


def _cores(axes: Axes, view: Ladder, lines: Sequence[Line]) -> None:
    most = float(view.manifest.host.get("cores") or 1)
    axes.set_xlim(0, most * 1.05)
    axes.axvline(most, color=canvas.FAINT, linewidth=0.8)
    axes.set_xlabel(f"cores in use, of {most:.0f}", color=canvas.FAINT, labelpad=3)
    for index, line in enumerate(lines):
        for place, (name, limit) in enumerate(
            (("generator_cores", "generator CPU"), ("db_cores", "database CPU"))
        ):
            value = line.mean(name)
            y = index + 0.32 + 0.36 * place
            if value is None:
                _words(axes, 0, y, "n/a", plain=False)
            else:
                axes.barh(y, value, height=0.32, color=LIMITS[limit], linewidth=0)
