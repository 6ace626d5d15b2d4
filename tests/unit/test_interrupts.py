"""What a signal does to the lab, and what its servers inherit."""

from __future__ import annotations

import signal
import subprocess
import sys

from lab.paths import ROOT

CODE = """
import subprocess
from lab import interrupts
interrupts.install()
subprocess.run(["grep", "SigIgn", "/proc/self/status"], check=True)
"""


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    """A hang-up that is ignored at the start stays ignored."""
    args = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", CODE]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1], 16) & 1 << signal.SIGHUP - 1


def test_servers_hear_every_signal_though_the_lab_was_started_in_the_background() -> None:
    """A shell without job control starts `lab &` with SIGINT and SIGQUIT ignored."""
    script = 'trap "" INT QUIT; exec "$@"'
    args = ["sh", "-c", script, "sh", sys.executable, "-c", CODE]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=True)
    ignored = int(done.stdout.split()[1], 16)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        assert not ignored & 1 << number - 1, number
