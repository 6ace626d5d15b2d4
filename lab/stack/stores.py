"""Where Prometheus keeps its samples: a store for each run, so that no query sees another run's.

A store is a folder below the data folder, or in the volume of the compose stack. Only folders with
the name of a run, or of `make up`, are ever removed: samples of older versions lie beside them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from lab.errors import ConfigError
from lab.stack import docker
from lab.stack.project import LABEL
from monitoring.signals import SCRAPE_INTERVAL_S

#: The store of `make up`, emptied at each of its starts.
UP = "up"
#: How long samples are kept, as Prometheus does by itself in a store that it writes to: a run adds
#: some 5 kB a second.
KEPT_DAYS = 30
#: How long what ended goes on in answers: two scrapes of the slowest job and a bit, not 5 minutes.
LOOKBACK_S = 2 * max(SCRAPE_INTERVAL_S.values()) + 2
#: Of samples: what is still written to is bounded, what is only looked at again loses nothing.
RETENTION, KEPT_RETENTION = f"{KEPT_DAYS}d", "100y"
#: Where the compose stack's volume is mounted.
MOUNTED = "/prometheus"
_RUN = re.compile(r"\d{8}-\d{6}-[a-z0-9][a-z0-9-]*")


def is_store(name: str) -> bool:
    """Return whether a folder of this name is one that the lab makes for samples."""
    return name == UP or _RUN.fullmatch(name) is not None


def stale(names: Collection[str], store: str, now: float) -> list[str]:
    """Return the stores to remove before one is written to, which is kept, unless it is UP's."""
    oldest = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now - KEPT_DAYS * 86_400))
    # Ids begin with their time.
    old = sorted(n for n in names if is_store(n) and n not in (UP, store) and n < oldest)
    return [*old, UP] if store == UP and UP in names else old


def begin(folder: Path, store: str, now: float) -> None:
    """Remove what is stale in a folder of stores; raise ConfigError for what cannot be removed."""
    there = {p.name for p in folder.glob("*") if p.is_dir() and not p.is_symlink()}
    for name in stale(there, store, now):
        try:
            shutil.rmtree(folder / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be removed: {error.strerror}; it belongs to who started "
                "the lab then"
            ) from None


def holds(folder: Path, store: str) -> bool:
    """Return whether a store is there and has something in it."""
    return any((folder / store).glob("*/*"))


class Volume:
    """The stores in the volume of a compose project, seen through containers of `image`."""

    def __init__(self, project: str, image: str) -> None:
        self._project = project
        self._image = image
        self._name = f"{project}_prometheus_data"

    def begin(self, store: str, now: float) -> None:
        """See begin; does nothing before the volume is there."""
        there = self._run(f"ls {MOUNTED}").split() if self._there() else []
        if old := stale(there, store, now):
            self._run('rm -rf -- "$@"', *(f"{MOUNTED}/{name}" for name in old))

    def holds(self, store: str) -> bool:
        """See holds."""
        found = 'for file in "$1"/*/*; do [ -e "$file" ] && echo "$file"; done; true'
        return self._there() and bool(self._run(found, f"{MOUNTED}/{store}").strip())

    def _there(self) -> bool:
        # Docker would make it where it is missing, without the label that removes it later.
        names = docker.run(["docker", "volume", "ls", "--quiet", "--filter", f"name={self._name}"])
        return self._name in names.split()

    def _run(self, script: str, *words: str) -> str:
        options = ["--rm", "--network=none", "--label", f"{LABEL}={self._project}"]
        mount = ["--user=65534:65534", "--volume", f"{self._name}:{MOUNTED}", "--entrypoint=sh"]
        command = ["docker", "run", *options, *mount, self._image, "-c", script, "sh", *words]
        return docker.run(command)
