"""Real answers of exporters, kept under tests/golden/scrapes, as sets of names and samples."""

from __future__ import annotations

import re
from pathlib import Path

SCRAPES = Path(__file__).parents[1] / "golden" / "scrapes"
# prometheus_client's own parser renames counters that do not end in _total; Prometheus does not.
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_START = re.compile(r'\{start="[^"]*"\}|,start="[^"]*"|(?<=\{)start="[^"]*",')


def taken(text: str) -> str:
    """Return an answer as Prometheus takes it: without the label that says who gave it."""
    return _START.sub("", text)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by name and labels."""
    return {
        (name, frozenset(_LABEL.findall(labels))): float(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


def sample_names(text: str) -> set[str]:
    """Return the names that have at least one sample."""
    return {name for name, _ in samples(text)}


def golden(stem: str) -> str:
    """Return a kept answer by the beginning of its file name."""
    (path,) = SCRAPES.glob(f"{stem}*.prom")
    return path.read_text()
