"""Locust in containers: a master, and workers that send the requests."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from lab.interrupts import shielded
from lab.stack import docker
from lab.stack.project import Project, log_of

#: Beyond the workers' own 75 s for the requests in flight.
STOP_S = 90
MASTER, WORKER = "locust-master", "locust-worker"


class ComposeLoad:
    """See Load."""

    def __init__(self, project: Project, workers: int, log_path: Path) -> None:
        self._project = project
        self._log_path = log_path
        self._names = [project.container(MASTER)]
        self._names += [f"{project.name}-{WORKER}-{n}" for n in range(1, workers + 1)]
        # Each waits, idle, for its container to end: asking ten times a second would cost a third
        # of a core.
        self._waiting = [
            subprocess.Popen(
                ["docker", "wait", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for name in self._names
        ]

    def alive(self) -> bool:
        """See Load."""
        return all(process.poll() is None for process in self._waiting)

    def limit(self, cpus: float) -> None:
        """See Load: each process that sends requests gets an equal share."""
        workers = self._names[1:]
        share = f"{cpus / len(workers):g}"
        docker.run(["docker", "update", "--cpus", share, *workers])

    def stop(self) -> None:
        """See Load: the master lets its workers' requests end, and then the workers."""
        with shielded():
            subprocess.run(
                ["docker", "stop", "--time", str(STOP_S), self._names[0]],
                capture_output=True,
                check=False,
            )
            for process in self._waiting:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                process.kill()
                process.wait()
            self._log_path.write_text(self.tail(200))
            self._project.remove(MASTER, WORKER)

    def tail(self, lines: int = 20) -> str:
        """See Load."""
        return "\n".join(filter(None, (log_of(name, lines) for name in self._names)))
