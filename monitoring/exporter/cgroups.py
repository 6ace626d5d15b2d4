"""CPU, throttling and memory of one cgroup, version 1 or 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NS = 1e-9
US = 1e-6
#: cgroup v1 says "no memory limit" by the largest number of whole pages.
V1_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Usage:
    """What one service used so far, and its limits; None where there is no such figure."""

    cpu_s: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    quota_us: int | None = None
    period_us: int | None = None
    working_set_bytes: int | None = None
    memory_limit_bytes: int | None = None


def read_cgroup(folders: Mapping[str, Path | None]) -> Usage:
    """Read the folder of cgroup v2 (`unified`) or those of v1 (`cpu`, `cpuacct`, `memory`).

    Raises FileNotFoundError for a folder that is not there. A file that is not there, because its
    controller is not switched on, only leaves its figures out.
    """
    for folder in filter(None, folders.values()):
        if not folder.is_dir():
            raise FileNotFoundError(f"no cgroup {folder}")
    unified = folders.get("unified")
    return _read_v2(unified) if unified else _read_v1(folders)


def _read_v2(folder: Path) -> Usage:
    cpu = _keyed(folder / "cpu.stat")
    quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
    limit = _text(folder / "memory.max")
    return Usage(
        cpu_s=_scaled(cpu.get("usage_usec"), US),
        periods=cpu.get("nr_periods"),
        throttled_periods=cpu.get("nr_throttled"),
        throttled_s=_scaled(cpu.get("throttled_usec"), US),
        quota_us=None if quota == "max" else int(quota),
        period_us=int(period) if period else None,
        working_set_bytes=_working_set(
            _number(folder / "memory.current"),
            _keyed(folder / "memory.stat").get("inactive_file"),
        ),
        memory_limit_bytes=None if limit in (None, "max") else int(limit),
    )


def _read_v1(folders: Mapping[str, Path | None]) -> Usage:
    nowhere = Path("/nonexistent")
    cpu = folders.get("cpu") or nowhere
    memory = folders.get("memory") or nowhere
    stat = _keyed(cpu / "cpu.stat")
    quota = _number(cpu / "cpu.cfs_quota_us")
    limit = _number(memory / "memory.limit_in_bytes")
    return Usage(
        cpu_s=_scaled(_number((folders.get("cpuacct") or nowhere) / "cpuacct.usage"), NS),
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_s=_scaled(stat.get("throttled_time"), NS),
        quota_us=quota if quota is not None and quota > 0 else None,
        period_us=_number(cpu / "cpu.cfs_period_us"),
        working_set_bytes=_working_set(
            _number(memory / "memory.usage_in_bytes"),
            _keyed(memory / "memory.stat").get("total_inactive_file"),
        ),
        memory_limit_bytes=limit if limit is not None and limit < V1_NO_LIMIT else None,
    )


def _working_set(used: int | None, inactive_file: int | None) -> int | None:
    """Return cAdvisor's working set: memory used without the file cache that can be dropped."""
    if used is None or inactive_file is None:
        return None
    return max(used - inactive_file, 0)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return None if text is None else int(text)


def _keyed(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in (_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor
