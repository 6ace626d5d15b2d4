"""Diagnoses of a run's cells: made from the records, and stored beside them."""

from __future__ import annotations

from collections.abc import Iterable

from lab.diagnosis.decide import diagnose_record
from lab.diagnosis.model import Diagnosis
from lab.errors import ResultError
from lab.files import write_atomic
from lab.results import CellRecord, Manifest, Run

FILE = "diagnosis.json"
#: Exit codes of `make diagnose`, for scripts: the first of these that holds for any cell.
EXIT_DIAGNOSED, EXIT_UNCLEAR = 0, 3


def manifest_of(run: Run) -> Manifest | None:
    """Return a run's manifest, None before it is written."""
    return run.manifest() if (run.folder / "manifest.json").exists() else None


def keep(run: Run, record: CellRecord) -> CellRecord:
    """Diagnose a record, store that beside it, and return the record with its verdict."""
    found = diagnose_record(record, manifest_of(run))
    path = run.cell_folder(record.cell_id) / FILE
    write_atomic(path, found.model_dump_json(indent=1))
    return record.model_copy(update={"verdict": found.label})


def of_run(run: Run, cell: str | None = None) -> list[Diagnosis]:
    """Diagnose a run's cells from their records, or those whose id begins with `cell`.

    Raises ResultError where there is none.
    """
    records = chosen(run, cell)
    manifest = manifest_of(run)
    return [diagnose_record(record, manifest) for record in records]


def chosen(run: Run, cell: str | None) -> list[CellRecord]:
    """Return a run's records, or those whose cell id is, or else begins with, `cell`."""
    records = run.records()
    if cell is not None:
        exact = [r for r in records if r.cell_id == cell]
        kept = exact or [r for r in records if r.cell_id.startswith(cell)]
        if not kept:
            known = ", ".join(r.cell_id for r in records) or "none"
            raise ResultError(f"run {run.run_id} has no cell {cell!r}; cells: {known}")
        return kept
    if not records:
        raise ResultError(f"run {run.run_id} has no measured cell")
    return records


def exit_code(found: Iterable[Diagnosis]) -> int:
    """Return 3 where a verdict is unclear, else 0."""
    return EXIT_UNCLEAR if any(d.verdict == "unclear" for d in found) else EXIT_DIAGNOSED
