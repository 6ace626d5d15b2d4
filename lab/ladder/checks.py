"""Whether a rung's figures can be trusted: rows against promises, errors, steal. Pure functions."""

from __future__ import annotations

from lab.ladder.generator import Account
from lab.ladder.records import Measured, Verification
from lab.validity import MAX_STEAL

#: Of the attempts: more failures than this, and the rung's figures are not those of writing.
MAX_ERRORS = 0.01
#: Cores used by neither database nor generator nor PgBouncer before the record says so.
OTHERS_CORES = 0.3


def verification(account: Account, counted: int, there: int, torn: int) -> Verification:
    """Compare what was acknowledged with what is there."""
    promised = account.acknowledged_rows
    why = None
    if not account.adds_up():
        why = "the generator's account does not add up"
    elif torn:
        why = f"{torn} writes are in the table in part"
    elif counted != promised + there:
        why = f"{counted:,} rows in the table, {promised:,} acknowledged" + (
            f" and {there:,} of lost answers" if there else ""
        )
    return Verification(
        acknowledged_rows=promised,
        in_table=counted,
        unknown_rows=sum(size for _, size in account.unknown),
        unknown_written=there,
        refused_rows=account.refused_rows,
        torn_writes=torn,
        right=why is None,
        why=why,
    )


def verification_of_ceiling(rows: int, counted: int) -> Verification:
    """Compare what psql or pgbench says with the table."""
    right = rows == counted
    why = None if right else f"{counted:,} rows in the table, {rows:,} reported"
    return Verification(acknowledged_rows=rows, in_table=counted, right=right, why=why)


def reasons(m: Measured | None, v: Verification | None) -> list[str]:
    """Return each reason to reject a rung; none means it can be trusted."""
    found = []
    if v is not None and not v.right:
        found.append(f"rows are not those acknowledged: {v.why}")
    if m is None:
        return found
    if not m.writes:
        found.append("no write was acknowledged in the window")
    if m.error_rate is not None and m.error_rate > MAX_ERRORS:
        kinds = ", ".join(f"{n} x {text}" for text, n in list(m.errors.items())[:3])
        found.append(f"{m.error_rate:.1%} of the attempts failed (limit {MAX_ERRORS:.0%}): {kinds}")
    if m.steal is not None and m.steal > MAX_STEAL:
        found.append(f"CPU steal was {m.steal:.1%} (limit {MAX_STEAL:.0%}); measure on a calm host")
    return found


def notes(m: Measured | None, cores: int) -> list[str]:
    """Return what a reader must know of an accepted rung."""
    if m is None or m.host_cpu is None or m.db_cores is None or m.generator_cores is None:
        return []
    others = m.host_cpu * cores - m.db_cores - m.generator_cores - (m.pgbouncer_cores or 0)
    if others <= OTHERS_CORES:
        return []
    return [f"other processes used {others:.1f} of {cores} cores: not a calm host"]
