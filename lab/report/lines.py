"""Throughput and P95 along one axis: users, or any other that the preset varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lab.report import canvas, wording
from lab.report.groups import Group, View
from lab.report.layout import LOG_SPREAD

#: Inches of a panel, around it, and how many stand side by side; lines that a panel can carry.
WIDE, TALL, LEFT, ABOVE, BELOW, COLUMNS = 3.0, 2.15, 0.8, 0.32, 0.55, 4
MOST_LINES = 6
MARKERS = "os^Dv<>P"
METRICS = (("rps", "requests/s"), ("p95_ms", "P95 latency (ms)"))
CROSS: dict[str, Any] = {
    "color": canvas.REJECTED,
    "linestyle": "none",
    "marker": "x",
    "markersize": 7,
    "markeredgewidth": 1.6,
}
WHISKER: dict[str, Any] = {"linewidth": 1, "marker": "_", "markersize": 6, "linestyle": "-"}
Context = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Line:
    """Groups that differ in nothing but the axis, by its level."""

    framework: str
    route: str
    context: Context
    points: dict[Any, Group]


#: A title, and the lines below it.
Panel = tuple[str, list[Line]]


def axes(view: View) -> list[str]:
    """Return the axes worth a picture: at least one line has two levels on them."""
    found: list[str] = []
    for axis in ("USERS", *view.varying):
        if any(axis in followers(view, earlier) for earlier in found):
            continue
        if any(len(line.points) > 1 for line in lines_along(view, axis)):
            found.append(axis)
    return found


def followers(view: View, axis: str) -> tuple[str, ...]:
    """Return the axes that change together with this one, level by level, in every cell."""
    found = []
    for other in (name for name in ("USERS", *view.varying) if name != axis):
        pairs = {(group.axes[axis], group.axes[other]) for group in view.groups}
        one_to_one = len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
        if one_to_one and len(pairs) > 1:
            found.append(other)
    return tuple(found)


def lines_along(view: View, axis: str) -> list[Line]:
    """Return the lines along an axis: one per framework, route and values of the other axes."""
    rest = [n for n in ("USERS", *view.varying) if n != axis and n not in followers(view, axis)]
    rest = [n for n in rest if len(view.levels[n]) > 1]
    found: dict[tuple[Any, ...], Line] = {}
    for group in view.groups:
        context = tuple((name, group.axes[name]) for name in rest)
        key = (group.axes["FRAMEWORK"], group.axes["ROUTE"], context)
        line = found.setdefault(key, Line(*key, {}))
        line.points[group.axes[axis]] = group
    return list(found.values())


def chart(view: View, axis: str) -> canvas.Sheet:
    """Draw small multiples by framework, throughput above and P95 below, along the axis."""
    found = [line for line in lines_along(view, axis) if len(line.points) > 1]
    panels = _panels(found)
    columns = min(COLUMNS, len(panels))
    blocks = -(-len(panels) // columns)
    width = max(7.5, columns * (LEFT + WIDE) + 0.25)
    handles = _handles(panels)
    top = canvas.TOP_IN + 0.19 * canvas.legend_lines(handles, width) + 0.05
    step = ABOVE + TALL + BELOW
    height = top + len(METRICS) * blocks * step + canvas.FOOT_IN
    words = " and ".join(map(wording.toggle, (axis, *followers(view, axis))))
    page = canvas.sheet(
        view, f"Throughput and P95 latency over {words}", canvas.note(view), width, height
    )
    page.legend(handles, canvas.TOP_IN)
    for row, (metric, unit) in enumerate(METRICS):
        limits = _limits(found, metric)
        for index, (title, lines) in enumerate(panels):
            block, column = divmod(index, columns)
            place = LEFT + column * (LEFT + WIDE), top + ABOVE + (row * blocks + block) * step
            axes = page.axes(*place, WIDE, TALL)
            _frame(axes, view, axis, title, unit if column == 0 else "", limits)
            for line in lines:
                _line(axes, view, axis, metric, line, _contexts(panels))
    return page


def _panels(found: Sequence[Line]) -> list[Panel]:
    """Split lines by framework, and by further axes while a panel would carry too many.

    A line keeps as context only what its panel's title does not say.
    """
    split: tuple[str, ...] = ()
    while True:
        panels: dict[tuple[Any, ...], list[Line]] = {}
        for line in found:
            kept = tuple(pair for pair in line.context if pair[0] in split)
            rest = tuple(pair for pair in line.context if pair[0] not in split)
            panels.setdefault((line.framework, kept), []).append(replace(line, context=rest))
        free = [name for name, _ in found[0].context if name not in split]
        if not free or max(map(len, panels.values())) <= MOST_LINES:
            break
        split = (*split, free[0])
    alone = len({name for name, _ in panels}) == 1
    return [
        (wording.axes(kept) if alone else wording.axes(kept, wording.framework(name)), lines)
        for (name, kept), lines in panels.items()
    ]


def _contexts(panels: Sequence[Panel]) -> list[Context]:
    return list(dict.fromkeys(line.context for _, lines in panels for line in lines))


def _positions(view: View, axis: str) -> tuple[dict[Any, float], bool]:
    """Return where each level stands, and whether the axis is logarithmic.

    Numbers from 1 on that spread far stand at their logarithm; words, and numbers that include 0,
    stand side by side at equal distances.
    """
    levels = view.levels[axis]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)
    if not numeric or len(levels) < 3 or min(levels) <= 0:
        return {level: float(place) for place, level in enumerate(levels)}, False
    return {level: float(level) for level in levels}, max(levels) >= 8 * min(levels)


def _limits(found: Sequence[Line], metric: str) -> tuple[float, float, bool]:
    """Return the value axis that all panels of a metric share: low, high, logarithmic."""
    groups = [group for line in found for group in line.points.values() if group.accepted]
    values = [v for group in groups if (v := group.mean(metric))]
    tops = [e.high for g in groups if (e := g.estimate(metric)) and e.high is not None]
    if not values:
        return 0, 1, False
    high = max(*values, *tops, 0)
    if metric != "rps" and max(values) > LOG_SPREAD * min(values):
        return min(values) / 1.5, high * 1.5, True
    return 0, high * 1.12, False


def _frame(
    axes: Axes, view: View, axis: str, title: str, unit: str, limits: tuple[float, float, bool]
) -> None:
    places, log = _positions(view, axis)
    low, high, log_value = limits
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(places.values()) / 1.35, max(places.values()) * 1.35)
    else:
        margin = 0.08 * (max(places.values()) - min(places.values()) or 1)
        margin = 0.35 if len(places) == 2 else margin
        axes.set_xlim(min(places.values()) - margin, max(places.values()) + margin)
    axes.xaxis.set_major_locator(FixedLocator(list(places.values())))
    axes.xaxis.set_minor_locator(NullLocator())
    comma = axis == "USERS"
    names = {at: f"{v:,}" if comma else wording.value(v) for v, at in places.items()}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(x, "")))
    if log_value:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
    axes.grid(color=canvas.GRID, linewidth=0.7)
    axes.tick_params(length=0)
    axes.set_title(title, loc="left", fontweight="bold", color=canvas.INK, pad=5)
    axes.set_xlabel(wording.toggle(axis), color=canvas.FAINT, labelpad=3)
    axes.set_ylabel(unit, color=canvas.FAINT)


def _line(
    axes: Axes, view: View, axis: str, metric: str, line: Line, contexts: Sequence[Context]
) -> None:
    """Draw a line through its accepted points; a rejected or missing one leaves a gap."""
    places, _ = _positions(view, axis)
    shade = canvas.colour(line.framework, "pgbouncer", view.levels["FRAMEWORK"])
    place = contexts.index(line.context)
    shade = canvas.shade(shade, place, len(contexts))
    direct = line.route == "direct"
    look: dict[str, Any] = {"marker": _marker(place), "linestyle": "--" if direct else "-"}
    look |= {"linewidth": 1.6, "markersize": 5.5, "markerfacecolor": "white" if direct else shade}
    means = {level: group.mean(metric) for level, group in line.points.items()}
    y = [math.nan if (value := means.get(level)) is None else value for level in places]
    axes.plot(list(places.values()), y, color=shade, **look)
    for level, group in line.points.items():
        found = group.estimate(metric)
        if found and found.low is not None and found.high is not None:
            axes.plot([places[level]] * 2, [found.low, found.high], color=shade, **WHISKER)
        if not group.accepted and (value := group.rejected_mean(metric)) is not None:
            axes.plot([places[level]], [value], **CROSS, zorder=4)


def _marker(place: int) -> str:
    return MARKERS[place % len(MARKERS)]


def _handles(panels: Sequence[Panel]) -> list[Any]:
    """Explain routes by line style, other axes by marker."""
    lines = [line for _, found in panels for line in found]
    handles = []
    grey: dict[str, Any] = {"color": canvas.FAINT, "markersize": 5}
    routes = list(dict.fromkeys(line.route for line in lines))
    for route in routes if len(routes) > 1 else ():
        direct = route == "direct"
        look: dict[str, Any] = {"linestyle": "--" if direct else "-", "marker": "o"}
        fill = "white" if direct else canvas.FAINT
        label = wording.ROUTE_NAMES.get(route, route)
        handles.append(Line2D([], [], **grey, **look, markerfacecolor=fill, label=label))
    contexts = _contexts(panels)
    one = len({line.framework for line in lines}) == 1
    base = canvas.colour(lines[0].framework, "pgbouncer") if one else canvas.FAINT
    for place, context in enumerate(contexts if len(contexts) > 1 else ()):
        look = {"color": canvas.shade(base, place, len(contexts)), "marker": _marker(place)}
        look |= {"linestyle": "none", "markersize": 5}
        handles.append(Line2D([], [], **look, label=wording.axes(context)))
    if any(not group.accepted for line in lines for group in line.points.values()):
        handles.append(Line2D([], [], **CROSS, label="rejected: not to be trusted"))
    return handles
