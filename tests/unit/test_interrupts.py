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


def ignored(*at_start: signal.Signals) -> int:
    """Return the mask of signals that a server ignores, of a lab started with only these ignored.

    Whoever runs the tests may ignore some as well: under nohup, say.
    """
    names = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
    start = "import os, signal, sys\n" + "".join(
        f"signal.signal({number}, signal.{'SIG_IGN' if number in at_start else 'SIG_DFL'})\n"
        for number in map(int, names)
    )
    args = [sys.executable, "-c", start + "os.execv(sys.argv[1], sys.argv[1:])"]
    done = subprocess.run(
        [*args, sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[1], 16)


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    """A hang-up that is ignored at the start stays ignored."""
    assert ignored(signal.SIGHUP) & 1 << signal.SIGHUP - 1


def test_servers_hear_every_signal_though_the_lab_was_started_in_the_background() -> None:
    """A shell without job control starts `lab &` with SIGINT and SIGQUIT ignored."""
    found = ignored(signal.SIGINT, signal.SIGQUIT)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        assert not found & 1 << number - 1, number
