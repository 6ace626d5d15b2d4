"""What a manifest says of the machine; figures of different machines are not compared."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, Any]:
    """Return cores, CPU model, memory in bytes, kernel, distribution and Python."""
    return {
        "cores": psutil.cpu_count() or 1,
        "cpu": _cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "system": _distribution(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two descriptions can be of one machine."""
    return all(one.get(key) == other.get(key) for key in ("cores", "cpu", "memory_bytes"))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
