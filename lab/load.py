"""The command line and environment of Locust."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from lab.settings import Settings

LOOPBACK = "127.0.0.1"


def locust_command(
    python: Path | str,
    locustfile: Path | str,
    host: str,
    users: int,
    spawn_rate: float,
    bound_s: float,
    stop_timeout_s: float,
    csv_prefix: Path | str,
    processes: int = 1,
    master_port: int = 5557,
) -> list[str]:
    """Give the command that runs the load until SIGTERM, or for `bound_s` where none comes.

    Run it from the project's root, with standard input closed (Locust reads keys from it) and in a
    session of its own. `stop_timeout_s` should be the 60 s of the client's timeout or more: then no
    request is cut off and the counts of client and server agree. Failed requests do not make the
    exit code 1; an interval log that cannot be written makes it 2. `master_port` is used on
    loopback, and only with several processes.
    """
    command = [
        *(str(python), "-m", "locust", "-f", str(locustfile)),
        *("--headless", "--only-summary", "--loglevel", "INFO", "--exit-code-on-error", "0"),
        *("--host", host, "--users", str(users), "--spawn-rate", f"{spawn_rate:g}"),
        # Locust takes whole seconds; a fraction in --run-time is an error.
        *("--run-time", f"{math.ceil(bound_s)}s", "--stop-timeout", f"{stop_timeout_s:g}"),
        *("--csv", str(csv_prefix)),
    ]
    if processes > 1:
        command += ["--processes", str(processes), "--expect-workers-max-wait", "30"]
        # Locust would listen on all interfaces.
        command += ["--master-bind-host", LOOPBACK, "--master-bind-port", str(master_port)]
        command += ["--master-host", LOOPBACK, "--master-port", str(master_port)]
    return command


def locust_environment(
    scenario: str,
    folder: Path | str,
    metrics_port: int | None,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give Locust's environment: `base` (this process's) without settings made for another run.

    `LOCUST_*` variables and ~/.locust.conf would change the load behind the manifest's back, hence
    HOME is the log folder too.
    """
    base = os.environ if base is None else base
    kept = {name: value for name, value in base.items() if not name.startswith("LOCUST_")}
    kept |= {"SCENARIO": scenario, "LOADTEST_DIR": str(folder), "HOME": str(folder)}
    if metrics_port is not None:
        kept["LOCUST_METRICS_PORT"] = str(metrics_port)
    return kept


def generator_processes(settings: Settings, cores: int | None = None) -> int:
    """Return how many processes generate load: one per core that the limited servers leave free.

    At least one; at most four, which is beyond what the services of one host can answer.
    """
    taken = settings.app_cpus + settings.db_cpus + settings.pgbouncer_cpus
    free = (cores or psutil.cpu_count() or 1) - taken
    return max(1, min(4, math.floor(free), settings.users))
