"""A server as an ordinary process: started with its own log, ended with all that it forked."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lab.errors import ServiceError
from lab.files import write_atomic
from lab.stack.limits import Group

log = logging.getLogger(__name__)

TAIL_LINES = 20


@dataclass(frozen=True)
class Command:
    """How a server is started and ended.

    `user` is the account to drop to, None to stay. `stop_signal` is also sent by the kernel when
    the process that started it dies, unless it was started to outlive it.
    """

    name: str
    args: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10


class Process:
    """One running server with everything that it forked."""

    def __init__(
        self, command: Command, run_dir: Path, group: Group | None = None, *, detached: bool = False
    ) -> None:
        self.command = command
        self.log_path = run_dir / f"{command.name}.log"
        self.group = group
        self._record = run_dir / f"{command.name}.pid.json"
        args = _wrapped(command, group, detached=detached)
        log.debug("start %s: %s", command.name, shlex.join(command.args))
        with self.log_path.open("ab") as output:
            self._popen = subprocess.Popen(
                args,
                env=command.env or None,
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is the lab's to handle
            )
        try:
            created = psutil.Process(self._popen.pid).create_time()
        except psutil.NoSuchProcess:
            raise ServiceError(f"{command.name} ended at once; {self.tail()}") from None
        record = {
            "name": command.name,
            "pid": self._popen.pid,
            "created": created,
            "signal": command.stop_signal,
            "timeout_s": command.stop_timeout_s,
        }
        write_atomic(self._record, json.dumps(record))

    @property
    def pid(self) -> int:
        """Process id of the server's first process."""
        return self._popen.pid

    def alive(self) -> bool:
        """Return whether the first process still runs."""
        return self._popen.poll() is None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log."""
        return tail(self.log_path, lines)

    def limit(self, cpus: float) -> None:
        """Limit its group's CPU; does nothing where no limits can be enforced."""
        if self.group is not None:
            self.group.limit(cpus, None)

    def kill(self) -> float:
        """End it and its children at once, as a crash would; `stop` clears up after it.

        Returns when the last of them was told to, in Unix time.
        """
        pid = self._popen.pid
        # Stopped first, so that nothing is forked any more; then the youngest first, since helpers
        # such as PostgreSQL's WAL writer are the oldest, and no server outlives its helpers.
        os.kill(pid, signal.SIGSTOP)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        family = [*sorted(map(int, children), reverse=True), pid]
        for one in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        moment = time.time()
        for one in family:
            with contextlib.suppress(psutil.Error):
                psutil.Process(one).wait(timeout=10)
        return moment

    def stop(self) -> None:
        """Ask it to end, then make it end, with every process that it left."""
        if self.alive():  # else its id may be another's by now; what it left is in its group
            end_tree(
                self._popen.pid,
                self.command.stop_signal,
                self.command.stop_timeout_s,
                reap=lambda timeout: self._popen.wait(timeout),
            )
        self._record.unlink(missing_ok=True)
        if self.group is not None:
            self.group.remove()


def _wrapped(command: Command, group: Group | None, *, detached: bool) -> list[str]:
    """Return the command that joins the group, drops to the user and then becomes the server.

    The group is joined before the program runs, so that nothing it forks is outside.
    """
    args = list(command.args)
    options = [] if detached else [f"--pdeathsig={command.stop_signal.name.removeprefix('SIG')}"]
    if command.user is not None:
        gid = pwd.getpwnam(command.user).pw_gid
        options += [f"--reuid={command.user}", f"--regid={gid}", "--clear-groups"]
    if options:
        args = ["setpriv", *options, "--", *args]
    if group is not None:
        args = group.wrap(args)
    return args


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a text file, empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def end_tree(pid: int, first: signal.Signals, timeout_s: float, *, reap=None) -> None:
    """End a process and its descendants: ask the first one, wait, then kill what is left."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        root.send_signal(first)
    except psutil.NoSuchProcess:
        family = []
    if reap is not None:
        try:
            reap(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("process %d did not end %g s after %s; killed", pid, timeout_s, first.name)
    _, left = psutil.wait_procs(family, timeout=timeout_s if reap is None else 1)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)
    if reap is not None:
        reap(5)


def recorded(run_dir: Path) -> list[tuple[str, int, bool]]:
    """Return (name, process id, alive) of each recorded server, the last started first.

    A process id is taken for the recorded server only if it was created at the recorded time.
    """
    found = []
    for record in _records(run_dir):
        try:
            created = psutil.Process(record["pid"]).create_time()
        except psutil.NoSuchProcess:
            created = 0.0
        alive = abs(created - record["created"]) < 0.5
        found.append((record["name"], record["pid"], alive))
    return found


def end_recorded(run_dir: Path) -> list[str]:
    """End what an earlier start of this checkout left running; return the names of those ended."""
    alive = {pid for _, pid, alive in recorded(run_dir) if alive}
    ended = []
    for record in _records(run_dir):
        if record["pid"] in alive:
            end_tree(record["pid"], signal.Signals(record["signal"]), record["timeout_s"])
            ended.append(record["name"])
        (run_dir / f"{record['name']}.pid.json").unlink()
    return ended


def _records(run_dir: Path) -> list[dict[str, Any]]:
    paths = sorted(run_dir.glob("*.pid.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [json.loads(path.read_text()) for path in paths]


def server_user() -> str | None:
    """Return the account for servers that refuse root, None when already unprivileged."""
    return "nobody" if os.geteuid() == 0 else None
