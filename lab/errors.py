"""What can go wrong, and the exit code each ends with.

LabError
 ├─ ConfigError         a setting, preset or command line is wrong             exit 2
 ├─ ServiceError        a server did not start, answer or stop                 exit 2
 ├─ VerificationError   the services do not do equal work                      exit 2
 └─ ResultError         records on disk are missing, damaged or of another run exit 2

A message is one line: the object, its state, and what to do next.
"""

from __future__ import annotations


class LabError(Exception):
    """A fault that the user can act on; shown as one line, never as a traceback."""

    exit_code = 2


class ConfigError(LabError):
    """A setting, preset, axis or option is unknown, of the wrong type or out of range."""


class ServiceError(LabError):
    """A server did not start, answer or stop; the message ends with the tail of its log."""


class VerificationError(LabError):
    """The services do not return the same JSON by the same statements."""


class ResultError(LabError):
    """A record on disk is missing, damaged, or belongs to another run or other settings."""
