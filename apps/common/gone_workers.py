"""What gone workers have counted, in one file of each kind.

prometheus_client keeps the files of every process that ever was, as its counts must not get lost;
a scrape reads them all, and with MAX_REQUESTS there are ever more of them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

#: Kinds whose values add up. Gauges of the living alone are removed by mark_process_dead.
_KINDS: Final = ("counter", "histogram")


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Hold off `fold`: while it works, counts are in two files, or in none."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def fold(folder: Path, alive: Collection[int]) -> None:
    """Add what workers have counted that are not alive to what those before them have.

    During a scrape it does nothing, and the next one to go takes these along: a worker that
    scrapes may be stuck, and the master must not wait for it.
    """
    with (folder / "lock").open("w") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for kind in _KINDS:
            pids = {file: file.stem.partition("_")[2] for file in folder.glob(f"{kind}_*.db")}
            gone = [f for f, pid in pids.items() if pid.isdigit() and int(pid) not in alive]
            if gone:
                _add(gone, folder / f"{kind}_gone.db")


def _add(gone: Iterable[Path], kept: Path) -> None:
    """Add up in `kept`, and remove the files."""
    sums = MmapedDict(str(kept))
    for file in gone:
        if file.stat().st_size:  # of a worker that was killed at its birth it may be empty
            for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):
                sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
        file.unlink()
    sums.close()
