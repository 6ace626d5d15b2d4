"""Records of real cells, each with one fault made on purpose, keep their verdicts.

They were measured on a 2-core machine; tests/golden/diagnosis/<class>[-detail].json.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lab import results
from lab.diagnosis import diagnose_record, show, stored
from lab.diagnosis.budget import leaves
from lab.diagnosis.experiments.faults import CLASSES, FaultClass
from lab.diagnosis.facts import from_record
from lab.diagnosis.network import network
from lab.errors import ResultError
from lab.results import CellRecord
from lab.validity import MAX_LITTLE_ERROR

FOLDER = Path(__file__).parents[1] / "golden" / "diagnosis"
GOLDEN = sorted(path.stem for path in FOLDER.glob("*.json"))


def golden(name: str) -> CellRecord:
    """Read a stored record."""
    return CellRecord.model_validate(json.loads((FOLDER / f"{name}.json").read_text()))


def fault_of(name: str) -> FaultClass:
    """Return the class of a golden record by its file's name."""
    if name == "several-cpus":
        both = frozenset({"database-cpu", "service-cpu"})
        return replace(CLASSES["healthy"], together=both)
    kind = next(k for k in sorted(CLASSES, key=len, reverse=True) if name.startswith(k))
    return CLASSES[kind]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cell_gets_its_verdict(name: str) -> None:
    """The first verdict is the fault that was made."""
    found = diagnose_record(golden(name))
    assert fault_of(name).right(found.verdict, found.limits), found.summary


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cells_budget_adds_up(name: str) -> None:
    """Every part was measured, and they sum to the client's mean within 5%."""
    found = diagnose_record(golden(name)).budget
    assert found.complete, found
    assert found.total_ms is not None
    whole = sum(part.ms for part in leaves(found))
    assert whole == pytest.approx(found.total_ms, rel=0.05)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cells_follow_the_network(name: str) -> None:
    """The model's throughput of the cell as it is, is that measured, within a third."""
    record = golden(name)
    facts = from_record(record)
    assert facts is not None
    net = network(facts)
    assert net is not None
    if record.users >= 10:  # of one user a CPU limit makes no slower server
        assert net.throughput() == pytest.approx(facts.rps, rel=0.33)
    found = diagnose_record(record)
    if record.status == "accepted":
        assert found.demand.little == pytest.approx(1, abs=MAX_LITTLE_ERROR)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_diagnosis_is_shown_on_any_terminal(width: int) -> None:
    """Verdict, remedy and the budget's bar are there, and no line is wider than the terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    show.show(diagnose_record(golden("connect")), console)
    text = console.export_text()
    assert "connection set-up" in text
    assert "DB_CONN_MAX_AGE=600" in text
    assert "cccc" in text
    assert max(map(len, text.splitlines())) <= width


def test_stored_diagnosis_carries_the_verdict(tmp_path: Path) -> None:
    """What is kept beside the record is the same diagnosis, and the record has its label."""
    run = results.create(tmp_path, "run")
    record = golden("connect")
    run.cell_folder(record.cell_id).mkdir(parents=True)
    kept = stored.keep(run, record)
    run.write_record(kept)
    assert kept.verdict == "connection set-up"
    assert (run.cell_folder(record.cell_id) / stored.FILE).is_file()
    assert stored.of_run(run, record.cell_id[:4])[0].verdict == "connection-set-up"
    with pytest.raises(ResultError, match="has no cell 'nothing'"):
        stored.of_run(run, "nothing")


def test_exit_code_tells_scripts_of_unclear_verdicts() -> None:
    """0 where every verdict is known, 3 where one is not."""
    known = diagnose_record(golden("connect"))
    unclear = diagnose_record(golden("connect").model_copy(update={"measurement": None}))
    assert stored.exit_code([known]) == 0
    assert stored.exit_code([known, unclear]) == 3
    assert "no measurement" in unclear.missing["measurement"]
