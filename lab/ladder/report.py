"""Records to `ladder.csv`, `summary_report.md` and `plots/`, from a run's folder alone."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.files import write_atomic
from lab.ladder import crash_report, markdown, records, summary
from lab.ladder.summary import Ladder, Line
from lab.report import wording
from lab.results import Run


def is_ladder(run: Run) -> bool:
    """Return whether a run is one of the ladder's."""
    return records.is_ladder(run.manifest())


def view(run: Run) -> Ladder:
    """Return a run's lines; raise ResultError for bad records."""
    return summary.ladder(run.manifest(), records.read(run))


def write(run: Run) -> list[Path]:
    """Write every file of the report and return their paths; write the manifest afterwards."""
    from lab.ladder import plots, web  # drawing takes half a second to import

    if run.manifest().preset == records.CRASH_PRESET:
        files: dict[str, str | bytes] = crash_report.files(run.manifest(), records.read(run))
    else:
        shown = view(run)
        pictures = plots.render(shown)
        files = {
            "ladder.csv": summary.to_csv(shown),
            **{f"plots/{name}": png for name, png in pictures.items()},
            "summary_report.md": markdown.render(shown, list(pictures)),
            "report.html": web.render(shown, pictures),
        }
    for name, content in files.items():
        write_atomic(run.folder / name, content)
    return [run.folder / name for name in files]


def show(run: Run, console: Console) -> None:
    """Print the ladder's table, or what the crashes showed."""
    if run.manifest().preset == records.CRASH_PRESET:
        crash_report.show(records.read(run), console)
        return
    shown = view(run)
    plain = not console.is_terminal
    table = Table(
        box=None if plain else box.SIMPLE_HEAD, padding=(0, 2 if plain else 1, 0, 0),
        pad_edge=False, show_edge=False,
    )  # fmt: skip
    for heading in ("rung", "rows/s", "x rung 1", "of \\copy", "P95 ms", "gen", "DB", "limited by",
                    "durability", "status"):  # fmt: skip
        left = heading in ("rung", "limited by", "durability", "status")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for line in shown.lines:
        style = "" if line.accepted else "dim"
        table.add_row(*(Text(text, style=style) for text in _cells(shown, line)))
    console.print(table)
    for name, ratio in shown.headlines():
        if ratio is not None:
            console.print(f"{name}: {wording.number(ratio)}", highlight=False)
    if any(line.measured and not line.accepted for line in shown.lines):
        console.print(wording.DOUBT, style="dim", highlight=False, soft_wrap=True)
    for line in shown.lines:
        for why in line.reasons:
            console.print(f"rejected {line.name}: {why}", highlight=False, soft_wrap=True)


def _cells(shown: Ladder, line: Line) -> list[str]:
    def ratio(to: str, text=wording.number) -> str:
        found = shown.ratio(line, to)
        return wording.MISSING if found is None else text(found)

    verdict = line.verdict
    return [
        line.name,
        markdown.figure(line, "rows_per_s"),
        ratio(summary.FIRST),
        ratio(records.COPY_CEILING, wording.percent),
        markdown.figure(line, "latency_p95_ms"),
        markdown.figure(line, "generator_cpu", wording.percent),
        markdown.figure(line, "db_cpu", wording.percent),
        verdict.limit if verdict else "",
        line.any.durability,
        line.status,
    ]
