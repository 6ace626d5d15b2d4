"""The latency budget of every combination: one stacked bar each, in shares of the mean latency."""

from __future__ import annotations

from matplotlib.patches import Patch

from lab.diagnosis.budget import budget, leaves
from lab.diagnosis.facts import from_record
from lab.report import canvas, wording
from lab.report.groups import Group, View

ROW_IN, BELOW_IN, WIDTH_IN, RIGHT_IN = 0.27, 0.75, 11.0, 1.3
#: Okabe and Ito's colours, by part; grey is what the service does not see.
COLOURS = {
    "outside": "#999999", "pool-wait": "#E69F00", "connecting": "#D55E00", "executing": "#0072B2",
    "committing": "#F0E442", "pgbouncer-wait": "#CC79A7", "database-rest": "#56B4E9",
    "database": "#56B4E9", "own": "#009E73",
}  # fmt: skip
Shares = dict[str, tuple[str, float]]


def shares(group: Group) -> tuple[Shares, float] | None:
    """Return each part's label and mean milliseconds over accepted cells, and the whole."""
    sums: dict[str, tuple[str, float]] = {}
    count = 0
    for record in group.accepted:
        facts = from_record(record)
        found = None if facts is None else budget(facts)
        if found is None or not found.parts:
            continue
        count += 1
        for part in leaves(found):
            before = sums.get(part.name, ("", 0.0))[1]
            sums[part.name] = (part.label, before + part.ms)
    if not count:
        return None
    means = {name: (label, ms / count) for name, (label, ms) in sums.items()}
    return means, sum(ms for _, ms in means.values())


def there(view: View) -> bool:
    """Return whether any combination has a budget to draw."""
    return any(shares(group) for group in view.groups)


def chart(view: View) -> canvas.Sheet:
    """Draw the bars."""
    rows = [(group, found) for group in view.groups if (found := shares(group))]
    names = [_name(view, group) for group, _ in rows]
    left = 0.3 + max(len(name) for name in names) * 0.065
    handles = _handles(rows)
    above = canvas.TOP_IN + 0.19 * canvas.legend_lines(handles, WIDTH_IN) + 0.1
    height = above + ROW_IN * len(rows) + BELOW_IN
    note = "shares of the client's mean latency, whose milliseconds stand at the end"
    page = canvas.sheet(view, "Where the time of a request goes", note, WIDTH_IN, height)
    page.legend(handles, canvas.TOP_IN)
    axes = page.axes(left, above, WIDTH_IN - left - RIGHT_IN, ROW_IN * len(rows))
    for place, (_, (parts, whole)) in enumerate(rows):
        begin = 0.0
        for name, (_, ms) in parts.items():
            axes.barh(place, ms / whole, 0.72, left=begin, color=COLOURS[name])
            begin += ms / whole
        axes.annotate(f"{wording.number(whole)} ms", (1.0, place), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    return page


def _handles(rows: list[tuple[Group, tuple[Shares, float]]]) -> list[Patch]:
    labels = {name: label for _, (parts, _) in rows for name, (label, _) in parts.items()}
    return [Patch(color=COLOURS[name], label=labels[name]) for name in COLOURS if name in labels]


def _name(view: View, group: Group) -> str:
    first = (wording.framework(group.axes["FRAMEWORK"]), wording.value(group.axes["ROUTE"]))
    pairs = (("USERS", group.axes["USERS"]), *view.labelled(group))
    return wording.axes(pairs, *first)
