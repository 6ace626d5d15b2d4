"""What limits a rung, by the figures of its window: pure functions of records.

Limits, in the order in which they are asked for: connection set-up, where a write spends most of
its time opening connections; a generator process that has used its core; commits and WAL; a
database that has used its limit; a full host, shared by both, or taken by others; else where a
write spends most of its time, which are round trips where it is neither in PostgreSQL nor at the
disk. From the third on they need samples of what the backends did: without these no limit is named.
"""

from __future__ import annotations

from lab.ladder.records import Measured, RungRecord, Verdict

CONNECTING = "connection set-up"
ROUND_TRIPS = "round trips"
WAL = "commits and WAL"
GENERATOR = "generator CPU"
DATABASE = "database CPU"
BUSY = "a busy host"
PACE = "the intended rate"
UNKNOWN = "not known"

#: Of the time of a write; of one core or the database's limit; of the host's cores.
MOSTLY, MUCH, FULL, FULL_HOST = 0.5, 0.35, 0.85, 0.8
#: Of the intended rate: what counts as kept.
KEPT = 0.99


def judge(record: RungRecord, next_rung: str | None) -> Verdict | None:
    """Return the verdict on a rung, None where it was not measured.

    `next_rung` says what the rung above removes.
    """
    m = record.measured
    if m is None or not m.writes:
        return None
    limit, evidence = _limit(m, record.lanes)
    if record.target_tps is not None:
        if _kept(m, record.target_tps, record.batch * record.processes):
            kept = f"{m.rows_per_s:,.1f} of {record.target_tps:,.0f} rows/s"
            return Verdict(limit=PACE, evidence=[kept], next_step=None)
        evidence = [_short(m, record.target_tps), *evidence]
    return Verdict(limit=limit, evidence=evidence, next_step=next_rung)


def _limit(m: Measured, lanes: int) -> tuple[str, list[str]]:
    wal, computing = m.time_in.get("WAL", 0.0), m.time_in.get("computing", 0.0)
    ours = (m.db_cores or 0) + (m.generator_cores or 0) + (m.pgbouncer_cores or 0)
    full = m.host_cores is not None and ours >= FULL_HOST * m.host_cores
    if (m.connect_share or 0) >= MOSTLY:
        return CONNECTING, [_connecting(m), *_cpu(m)]
    if (m.generator_cpu or 0) >= FULL:
        return GENERATOR, [*_cpu(m), *_time(m)]
    if not m.time_in or m.generator_cpu is None:
        return UNKNOWN, [*_missing(m), *_cpu(m)]
    if wal >= MUCH and wal >= computing:
        return WAL, [*_time(m), _log(m), *_cpu(m)]
    if (m.db_cpu or 0) >= FULL:
        return DATABASE, [*_cpu(m), *_time(m)]
    if full:
        larger = DATABASE if (m.db_cores or 0) >= (m.generator_cores or 0) else GENERATOR
        return larger, [f"both use {ours:.1f} of {m.host_cores} cores", *_cpu(m), *_time(m)]
    if m.time_in.get("a core", 0.0) >= MUCH:
        return BUSY, [f"the host is {m.host_cpu or 0:.0%} busy", *_time(m), *_cpu(m)]
    where = max(m.time_in, key=lambda name: m.time_in[name])
    if where == "client":
        # Many writes at once wait for the one thread of their generator, a single one for its turn.
        waits = lanes > 1 and m.generator_cpu >= MUCH
        return (GENERATOR if waits else ROUND_TRIPS), [*_time(m), _trips(m), *_cpu(m), *_others(m)]
    return (WAL if where == "WAL" else DATABASE), [*_time(m), *_cpu(m)]


def _connecting(m: Measured) -> str:
    return (
        f"opening a connection takes {m.connect_ms or 0:.1f} ms, "
        f"{m.connect_share or 0:.0%} of the time of a write"
    )


def _cpu(m: Measured) -> list[str]:
    parts = []
    if m.generator_cpu is not None:
        parts.append(f"generator {m.generator_cpu:.0%} of a core")
    if m.db_cores is not None and m.db_cpu is not None:
        parts.append(f"database {m.db_cores:.2f} cores ({m.db_cpu:.0%})")
    return [", ".join(parts)] if parts else []


def _time(m: Measured) -> list[str]:
    if not m.time_in:
        return []
    shown = ", ".join(f"{name} {share:.0%}" for name, share in m.time_in.items() if share)
    return [f"a write's time: {shown}"]


def _missing(m: Measured) -> list[str]:
    """Say which of the figures that a verdict needs are not there, and why."""
    gone = [name for name in ("generator_cpu", "db_cores") if getattr(m, name) is None]
    gone += [] if m.time_in else ["time_in"]
    return [f"missing {name}: {m.missing.get(name, 'not measured')}" for name in gone]


def _others(m: Measured) -> list[str]:
    """Say what other programs took of a busy host: it was missing here."""
    if m.host_cpu is None or m.host_cores is None or m.db_cores is None:
        return []
    others = m.host_cpu * m.host_cores - m.db_cores - (m.generator_cores or 0)
    return [f"other programs used {others:.1f} of {m.host_cores} cores"] if others > MUCH else []


def _log(m: Measured) -> str:
    return f"{m.commits_per_s:,.0f} commits/s, {m.wal_mb_per_s or 0:.1f} MB of WAL/s"


def _trips(m: Measured) -> str:
    if m.statements_per_row is None:
        return f"{m.row_us or 0:,.0f} us per row"
    return f"{m.statements_per_row:.2f} statements per row, {m.row_us or 0:,.0f} us each row"


def _kept(m: Measured, target: float, rows_at_once: int) -> bool:
    """Return whether the rate was kept; a write that ended just beside the window is not missed."""
    due = target * m.window_s
    whole_writes = due // rows_at_once * rows_at_once
    return m.rows >= min(KEPT * due, whole_writes - rows_at_once)


def _short(m: Measured, target: float) -> str:
    short = target - m.rows_per_s
    return f"{m.rows_per_s:,.1f} of {target:,.0f} rows/s: {short:,.1f} short ({short / target:.0%})"
