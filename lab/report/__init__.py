"""Records to tables, plots and `report.html`: pure functions, written at the end of a run.

`write` needs a run's folder only, so that a report can be made again at any time; the same
records give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.files import write_atomic
from lab.results import Run

#: A section that an experiment wrote, shown at the end of the result.
SECTION = "experiment.md"

if TYPE_CHECKING:
    from rich.console import Console


def write(run: Run) -> list[Path]:
    """Write every file of the report and return their paths; raise ResultError for bad records.

    The run's manifest holds the files' hashes: write it afterwards.
    """
    # Here, because drawing takes half a second to import and few commands draw.
    from lab.report import groups, markdown, plots, summary, web

    view = groups.view(run.manifest(), run.records())
    pictures = plots.render(view)
    written = run.folder / SECTION
    section = written.read_text(encoding="utf-8") if written.is_file() else ""
    files: dict[str, str | bytes] = {
        "summary.csv": summary.to_csv(view.records, view.other_axes),
        **{f"plots/{name}": png for name, png in pictures.items()},
        "summary_report.md": markdown.render(view, list(pictures), section),
        "report.html": web.render(run, view),
    }
    for name, content in files.items():
        write_atomic(run.folder / name, content)
    return [run.folder / name for name in files]


def show(run: Run, console: Console) -> None:
    """Print the run's table; raise ResultError for bad records."""
    from lab.report import groups, table

    table.show(groups.view(run.manifest(), run.records()), console)
