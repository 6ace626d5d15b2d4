"""Bars of every combination: small multiples, one row per framework and axis values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lab.report import canvas, wording
from lab.report.groups import Group, View
from lab.report.layout import (
    BAR,
    GAP,
    Columns,
    Metric,
    Panel,
    Row,
    Scale,
    columns,
    rows_height,
    scale,
    shown_labels,
)

#: Inches: between panels, above a panel for its title, below it for ticks and label.
BETWEEN, ABOVE, BELOW = 0.32, 0.32, 0.52
#: Inches: a sheet that a README shows without shrinking much, and the limits of a panel's width.
SHEET_WIDTH, NARROWEST_SHEET, NARROWEST_PANEL, WIDEST = 12.0, 8.0, 2.05, 6.0
LIGHT, DARK = "#c4c4c4", "#606060"
HATCHED: dict[str, Any] = {
    "facecolor": "white",
    "edgecolor": canvas.REJECTED,
    "hatch": "xxxx",
    "linewidth": 0.8,
}
THROTTLED: dict[str, Any] = {
    "marker": "D",
    "markersize": 3.6,
    "color": "white",
    "markeredgecolor": canvas.INK,
    "linestyle": "none",
}
WHISKER: dict[str, Any] = {
    "color": canvas.INK,
    "linewidth": 1,
    "marker": "|",
    "markersize": 5,
    "markeredgewidth": 1,
}
CEILING_STYLES = (":", "-.", "--", "-")


@dataclass(frozen=True)
class Ceiling:
    """One of pgbench's figures and its line."""

    tps: float
    words: str
    style: str


def chart(view: View, title: str, panels: Sequence[Panel], across: int) -> canvas.Sheet:
    """Draw panels in a grid; labels on the left, legend above, one value axis for all."""
    across = min(across, len(panels))
    rows = panels[0].rows
    labels = columns(view, rows)
    wide = (SHEET_WIDTH - labels.width) / across - BETWEEN
    wide = max(NARROWEST_PANEL, min(WIDEST, wide))
    width = max(labels.width + across * (wide + BETWEEN) + 0.1, NARROWEST_SHEET)
    ceilings = _ceilings(view) if panels[0].metric.name == "rps" else []
    axis = scale(panels, wide, [ceiling.tps for ceiling in ceilings])
    handles = [*_bar_handles(view, panels), *_ceiling_handles(ceilings, axis)]
    top = canvas.TOP_IN + 0.19 * canvas.legend_lines(handles, width) + 0.08
    tall = rows_height(rows, len(view.levels["ROUTE"]))
    step = ABOVE + tall + BELOW
    height = top + -(-len(panels) // across) * step + canvas.FOOT_IN
    page = canvas.sheet(view, title, canvas.note(view), width, height)
    page.legend(handles, canvas.TOP_IN)
    for index, panel in enumerate(panels):
        line, column = divmod(index, across)
        above = top + ABOVE + line * step
        axes = page.axes(labels.width + column * (wide + BETWEEN), above, wide, tall)
        _frame(axes, panel, axis, wide, tall)
        _draw_ceilings(axes, ceilings, axis)
        _rows(axes, panel, axis, view)
        if column == 0:
            _labels(page, labels, rows, above, tall)
    return page


def _frame(axes: Axes, panel: Panel, axis: Scale, wide: float, tall: float) -> None:
    """Set up one panel; its y axis is in inches, downwards."""
    if axis.log:
        axes.set_xscale("log")
    axes.set_xlim(axis.low, axis.high)
    axes.set_ylim(tall, 0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    if axis.log:
        ticks = _log_ticks(axis, wide)
    else:
        locator = MaxNLocator(max(2, int(wide / 0.62)), steps=[1, 2, 2.5, 5, 10])
        ticks = [float(tick) for tick in locator.tick_values(0, min(axis.high, axis.whole))]
    whole = panel.metric.whole
    percent = panel.metric.text is wording.percent
    most = whole if percent and whole else min(axis.high, 0.97 * axis.whole)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= most]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}" if percent else _tick(x)))
    axes.grid(axis="x", color=canvas.GRID, linewidth=0.7)
    axes.tick_params(axis="x", length=0)
    note = ", logarithmic" if axis.log else ""
    axes.set_xlabel(panel.metric.axis + note, color=canvas.FAINT, labelpad=3)
    if whole:
        axes.axvline(whole, color=canvas.FAINT, linewidth=0.8, zorder=1)
    if panel.title:
        axes.set_title(panel.title, loc="left", fontweight="bold", color=canvas.INK, pad=5)


def _tick(x: float) -> str:
    return f"{x:,.0f}" if x == round(x) else f"{x:g}"


def _log_ticks(axis: Scale, wide: float) -> list[float]:
    """Return ticks at 1, 2 and 5 times powers of ten, thinned to what has room."""
    most = axis.high / (axis.high / axis.low) ** (0.25 / wide)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        every = [digit * 10.0**power for power in range(-4, 9) for digit in digits]
        ticks = [tick for tick in every if axis.low <= tick <= most]
        if len(ticks) <= max(2, wide / 0.5):
            break
    return ticks


def _labels(
    page: canvas.Sheet, labels: Columns, rows: Sequence[Row], above: float, tall: float
) -> None:
    """Write the rows' labels in right-aligned columns, and what the columns are above them."""
    for heading, right in zip(labels.headings, labels.rights, strict=True):
        page.text(right, above - 0.06, heading, ha="right", va="bottom", fontsize=7.5,
                  color=canvas.FAINT, linespacing=1.05)  # fmt: skip
    for index, words in enumerate(shown_labels(rows)):
        middle = above + tall * (index + 0.5) / len(rows)
        for word, right in zip(words, labels.rights, strict=True):
            if word:
                page.text(right, middle, word, ha="right", va="center")


def _rows(axes: Axes, panel: Panel, axis: Scale, view: View) -> None:
    """Draw the rows from the top down."""
    routes = view.levels["ROUTE"]
    for index, row in enumerate(panel.rows):
        for place, route in enumerate(routes):
            y = index * (len(routes) * BAR + GAP) + GAP / 2 + (place + 0.5) * BAR
            if (group := row.groups.get(route)) is None:
                _words(axes, axis.low, y, "not measured")
            else:
                _bar(axes, panel.metric, group, y, axis, view)


def _bar(axes: Axes, metric: Metric, group: Group, y: float, axis: Scale, view: View) -> None:
    """Draw one bar with its whisker, mark and words; on a logarithmic axis, a dot on a stem."""
    value = metric.value(group)
    words = metric.words(group)
    if value is None:
        _words(axes, axis.low, y, words)
        return
    value = max(value, axis.low)
    shade = canvas.colour(group.axes["FRAMEWORK"], group.axes["ROUTE"], view.levels["FRAMEWORK"])
    if axis.log and group.accepted:
        axes.plot([axis.low, value], [y, y], color=shade, linewidth=2.2, solid_capstyle="butt")
        dot: dict[str, Any] = {"marker": "o", "markersize": 6, "linestyle": "none"}
        axes.plot([value], [y], **dot, color=shade, zorder=3)  # over a whisker shorter than it
    else:
        look = {"color": shade, "linewidth": 0} if group.accepted else HATCHED
        thick = BAR * (0.5 if axis.log else 0.86)
        axes.barh(y, value - axis.low, left=axis.low, height=thick, **look)
    estimate = group.estimate(metric.name)
    if estimate and estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [y, y], **WHISKER)
    if metric.mark and (mark := group.mean(metric.mark)) is not None:
        axes.plot([mark], [y], **THROTTLED, clip_on=False, zorder=4)
    end = max(metric.end(group) or value, value)
    _words(axes, end, y, words, gap=8 if axis.log else 4, plain=bool(group.accepted))


def _words(
    axes: Axes, x: float, y: float, words: str, *, gap: float = 4, plain: bool = False
) -> None:
    """Write at the end of a bar, `gap` points away; what is no measured value, in italics."""
    axes.annotate(
        words,
        (x, y),
        xytext=(gap, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=7.8,
        color=canvas.INK if plain else canvas.FAINT,
        fontstyle="normal" if plain else "italic",
        annotation_clip=False,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.4},
    )


def _ceilings(view: View) -> list[Ceiling]:
    known = sorted(view.ceilings(), key=lambda c: c.tps or 0)
    if len({c.scenario for c in known}) > 1:
        return []  # no line is the ceiling of all bars; the table has them
    return [
        Ceiling(found.tps or 0, f"{found.route}, {found.protocol}", style)
        for found, style in zip(known, CEILING_STYLES, strict=False)
    ]


def _draw_ceilings(axes: Axes, ceilings: Sequence[Ceiling], axis: Scale) -> None:
    """Draw pgbench's ceilings; those too far away stand beyond the break, in order."""
    look: dict[str, Any] = {"color": canvas.INK, "linewidth": 0.9, "zorder": 1}
    far = [ceiling for ceiling in ceilings if ceiling.tps > axis.whole]
    for ceiling in ceilings:
        x = ceiling.tps
        if ceiling in far:
            place = (far.index(ceiling) + 1) / (len(far) + 1)
            x = axis.whole + (axis.high - axis.whole) * (0.25 + 0.75 * place)
        axes.axvline(x, linestyle=ceiling.style, **look)
    if far:
        middle = 1 - 0.85 * (1 - axis.whole / axis.high)
        axes.annotate("//", (middle, 0), xycoords="axes fraction", ha="center",
                      va="center_baseline", color=canvas.FAINT, annotation_clip=False,
                      bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5})  # fmt: skip


def _bar_handles(view: View, panels: Sequence[Panel]) -> list[Any]:
    """Explain shades, hatching and marks, as far as they occur."""
    handles: list[Any] = []
    if len(view.levels["ROUTE"]) > 1:
        for route in view.levels["ROUTE"]:
            shade = LIGHT if route == "direct" else DARK
            handles.append(Patch(color=shade, label=wording.ROUTE_NAMES.get(route, route)))
    if any(not group.accepted for panel in panels for group in panel.groups()):
        handles.append(Patch(**HATCHED, label="rejected: not to be trusted"))
    if any(panel.metric.mark for panel in panels):
        handles.append(Line2D([], [], **THROTTLED, label="share of periods throttled"))
    return handles


def _ceiling_handles(ceilings: Sequence[Ceiling], axis: Scale) -> list[Any]:
    """Explain the ceilings' lines, with their figures."""
    handles = []
    for ceiling in ceilings:
        far = " (off the axis)" if ceiling.tps > axis.whole else ""
        label = f"pgbench {ceiling.words} {wording.number(ceiling.tps)}/s{far}"
        look: dict[str, Any] = {"color": canvas.INK, "linewidth": 0.9, "linestyle": ceiling.style}
        handles.append(Line2D([], [], **look, label=label))
    return handles
