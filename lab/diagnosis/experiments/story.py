"""The picture of `make tune`: throughput step by step, predicted and measured, with its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lab.report import canvas, wording
from lab.results import Manifest

if TYPE_CHECKING:
    from lab.diagnosis.experiments.tune import Step

WIDTH_IN, ROW_IN, ABOVE_IN, BELOW_IN = 9.5, 0.62, 1.1, 0.9
LEFT_IN, RIGHT_IN = 3.1, 0.5
KEPT, BACK = "#0072B2", "#c4c4c4"


def picture(steps: Sequence[Step], manifest: Manifest) -> bytes:
    """Return the story as PNG."""
    with canvas.style():
        height = ABOVE_IN + ROW_IN * len(steps) + BELOW_IN
        figure = Figure(figsize=(WIDTH_IN, height), dpi=canvas.DPI, facecolor="white")
        page = canvas.Sheet(figure, WIDTH_IN, height)
        page.text(0.25, 0.16, "How the bottleneck moved", fontsize=13, fontweight="bold")
        note = "requests per second after each change; in words what limits then"
        page.text(0.25, 0.46, note, fontsize=8.5, color=canvas.FAINT)
        foot = f"run {manifest.run_id} · {wording.hardware(manifest)}"
        page.text(0.25, height - 0.3, foot, fontsize=7, color=canvas.FAINT)
        page.legend(_handles(), 0.72)
        _bars(page, steps)
        return canvas.png(page)


def _handles() -> list[Patch | Line2D]:
    mark = Line2D([], [], color=canvas.INK, marker="|", markersize=11, linestyle="none",
                  label="predicted")  # fmt: skip
    return [Patch(color=KEPT, label="measured"), Patch(color=BACK, label="taken back"), mark]


def _bars(page: canvas.Sheet, steps: Sequence[Step]) -> None:
    width = WIDTH_IN - LEFT_IN - RIGHT_IN
    axes = page.axes(LEFT_IN, ABOVE_IN, width, ROW_IN * len(steps))
    most = max([s.rps or 0.0 for s in steps] + [s.predicted_rps or 0.0 for s in steps]) or 1.0
    for place, step in enumerate(steps):
        axes.barh(place, step.rps or 0.0, 0.5, color=KEPT if step.kept else BACK)
        if step.predicted_rps is not None:
            axes.plot(step.predicted_rps, place, color=canvas.INK, marker="|", markersize=16)
        rps = wording.MISSING if step.rps is None else f"{step.rps:,.0f}"
        inside = (step.rps or 0.0) > 0.55 * most
        axes.annotate(
            f"{rps} RPS · {step.bottleneck}", (step.rps or 0.0, place),
            xytext=(-6 if inside else 8, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", fontsize=8,
            color="white" if inside and step.kept else canvas.INK,
        )  # fmt: skip
    axes.set_yticks(range(len(steps)), [f"{s.number}  {_folded(s.change)}" for s in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, most * 1.08)
    axes.xaxis.grid(True, color=canvas.GRID)
    axes.set_xlabel("requests per second")


def _folded(change: str) -> str:
    return change.replace(" ", "\n") if len(change) > 34 else change
