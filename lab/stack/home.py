"""The lab's own folder: programs, data, logs, process records, and the lock on all of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ConfigError
from lab.paths import ROOT


@dataclass(frozen=True)
class Home:
    """Folders below the lab's home, `.lab` of the checkout unless servers could not reach it."""

    root: Path

    @property
    def toolchain(self) -> Path:
        """Fetched programs."""
        return self.root / "toolchain"

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "data" / "postgres"

    @property
    def prometheus_data(self) -> Path:
        """Prometheus's samples; kept over runs."""
        return self.root / "data" / "prometheus"

    @property
    def run(self) -> Path:
        """Logs, rendered configuration and process records of what runs now."""
        return self.root / "run"

    @property
    def name(self) -> str:
        """A name for groups of this home on this host, different for each checkout."""
        return f"poolscope-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    def own(self, path: Path, user: str | None) -> Path:
        """Give a file or folder to the account that a server runs as; return it."""
        if user is not None:
            shutil.chown(path, user)
        return path

    def reset(self) -> None:
        """Remove data and logs; programs stay. Raises ConfigError for what cannot be removed."""
        for folder in (self.root / "data", self.run):
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigError(
                    f"{error.filename} cannot be removed: {error.strerror}; it belongs to who "
                    "started the lab then"
                ) from None


def locate() -> Home:
    """Return the home of this checkout.

    Run by root from a folder that other accounts may not enter (such as /root), the servers that
    drop root could not reach `.lab`; then the home is below /var/lib. `POOLSCOPE_HOME` decides by
    hand.
    """
    if chosen := os.environ.get("POOLSCOPE_HOME"):
        return Home(Path(chosen).resolve())
    inside = ROOT / ".lab"
    if os.geteuid() == 0 and closed_folder(ROOT) is not None:
        digest = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
        return Home(Path("/var/lib") / f"poolscope-{digest}")
    return Home(inside)


def closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to a path that other accounts may not enter."""
    existing = [p for p in (path, *path.parents) if p.exists()]
    return next((p for p in reversed(existing) if not p.stat().st_mode & stat.S_IXOTH), None)


@contextmanager
def locked(home: Home, holder: str) -> Iterator[None]:
    """Hold the home's lock; raise ConfigError that says who holds it."""
    if os.geteuid() == 0 and (closed := closed_folder(home.root)) is not None:
        raise ConfigError(
            f"{home.root} is below {closed}, which servers that drop root cannot enter; choose "
            "another POOLSCOPE_HOME"
        )
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        file = (home.root / "lock").open("a+")
    except OSError as error:
        raise ConfigError(f"{home.root} cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = json.loads(file.read() or "{}")
            raise ConfigError(
                f"{home.root} is in use by `{other.get('holder', '?')}` (process "
                f"{other.get('pid', '?')}); wait for it or end it"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"holder": holder, "pid": os.getpid()}))
        file.flush()
        yield
