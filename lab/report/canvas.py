"""One look for every picture: colours, sizes, heading and footer; and a figure as PNG bytes.

Colours are Okabe and Ito's, which people with any kind of colour vision can tell apart; direct is
the light shade of a framework's colour and PgBouncer the full one, so that grey print works too.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from lab.report import wording
from lab.report.groups import View

DPI = 110
INK, FAINT, GRID, REJECTED, WARNING = "#222222", "#6b6b6b", "#e3e3e3", "#8a8a8a", "#b3261e"
COLOURS = {"fastapi": "#0072B2", "django": "#009E73", "flask": "#D55E00"}
SPARE = ("#CC79A7", "#56B4E9", "#E69F00")
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": "#b5b5b5",
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "poolscope",
}
#: Inches that heading and footer take.
TOP_IN, FOOT_IN = 0.78, 0.42


@contextmanager
def style() -> Iterator[None]:
    """Draw with this look, whatever the user's matplotlibrc says; it is as before afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class Sheet:
    """A figure with heading and footer; places are given in inches from the top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes whose plot area has this place and size."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, words: str, **kind: Any) -> None:
        """Write text whose top left corner is here."""
        where = left / self.width, 1 - top / self.height
        self.figure.text(*where, words, **{"ha": "left", "va": "top", "color": INK} | kind)

    def legend(self, handles: list[Any], top: float, left: float = 0.25) -> None:
        """Put a legend of one or more lines whose top left corner is here."""
        if not handles:
            return
        width = max(len(str(handle.get_label())) for handle in handles) * 0.058 + 0.62
        self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(left / self.width, 1 - top / self.height),
            ncols=min(len(handles), max(1, int((self.width - left) / width))),
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.6,
            handlelength=2.2,
        )


def legend_lines(handles: list[Any], width: float, left: float = 0.25) -> int:
    """Return how many lines `Sheet.legend` will need on a sheet of this width."""
    if not handles:
        return 0
    one = max(len(str(handle.get_label())) for handle in handles) * 0.058 + 0.62
    columns = min(len(handles), max(1, int((width - left) / one)))
    return -(-len(handles) // columns)


def sheet(view: View, title: str, note: str, width: float, height: float) -> Sheet:
    """Return an empty figure with title, one line on what is shown, and where it was measured."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    page = Sheet(figure, width, height)
    page.text(0.25, 0.16, title, fontsize=13, fontweight="bold")
    page.text(0.25, 0.46, note, fontsize=8.5, color=FAINT)
    foot = f"run {view.manifest.run_id} · {wording.hardware(view.manifest)}"
    page.text(0.25, height - 0.34, _fit(foot, width), fontsize=7, color=FAINT)
    colour, weight = (FAINT, "normal") if view.limits_enforced else (WARNING, "bold")
    words = wording.limits(view.manifest)
    if view.manifest.limits and not view.limits_enforced:
        words = f"LIMITS NOT ENFORCED in every cell; {words}"
    kind = {"fontsize": 7, "color": colour, "fontweight": weight}
    page.text(0.25, height - 0.2, _fit(words, width), **kind)
    return page


def note(view: View) -> str:
    """Say what is constant in the run and what marks and whiskers mean."""
    parts = wording.constants(view)
    low, high = view.repetitions
    if high > 1:
        count = f"{low}" if low == high else f"{low} to {high}"
        parts.append(f"mean of {count} repetitions, whiskers: 95% interval")
    else:
        parts.append("one measurement each, so without intervals")
    return " · ".join(parts)


def colour(framework: str, route: str, frameworks: tuple[str, ...] = ()) -> str:
    """Return the shade of a framework and route."""
    base = COLOURS.get(framework)
    if base is None:
        others = [name for name in frameworks if name not in COLOURS]
        base = SPARE[others.index(framework) % len(SPARE)] if framework in others else SPARE[0]
    return tint(base) if route == "direct" else base


def shade(base: str, place: int, count: int) -> str:
    """Return a darker shade of a colour for each further line of the same framework."""
    keep = 1 - 0.72 * place / max(1, count - 1) if count > 1 else 1
    red, green, blue = (part * keep for part in to_rgb(base))
    return to_hex((red, green, blue))


def tint(base: str) -> str:
    """Return the light shade of a colour."""
    red, green, blue = (1 - (1 - part) * 0.42 for part in to_rgb(base))
    return to_hex((red, green, blue))


def png(page: Sheet) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure."""
    FigureCanvasAgg(page.figure)
    buffer = io.BytesIO()
    page.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _fit(words: str, width: float) -> str:
    """Shorten a footer line to the sheet."""
    return textwrap.shorten(words, int((width - 0.5) / 0.058), placeholder=" …")
