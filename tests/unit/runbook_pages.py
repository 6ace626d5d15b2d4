"""The runbook pages, taken apart: queries, toggles, commands and links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from lab.paths import ROOT

FOLDER = ROOT / "monitoring" / "runbooks"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_TOGGLE = re.compile(r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)(?:=(\S+))?")
_LINK = re.compile(r"\]\(([^)]+)\)")


def queries(page: Path, language: str) -> list[str]:
    """Return the page's blocks in a language: promql or sql."""
    return [text for _, kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def inline(page: Path) -> list[str]:
    """Return what the page marks as code within its text."""
    return _INLINE.findall(_BLOCK.sub("", page.read_text()))


def toggles(page: Path) -> list[tuple[str, str]]:
    """Return names in capitals, with the value that the page gives to them, or an empty one."""
    found = (_TOGGLE.fullmatch(code) for code in inline(page))
    return [(match[1], match[2] or "") for match in found if match]


def benches(page: Path) -> list[dict[str, str]]:
    """Return the arguments of each `make bench` that stands on a line of its own."""
    lines = re.findall(r"^    make bench (.+)$", page.read_text(), re.MULTILINE)
    return [dict(word.split("=", 1) for word in shlex.split(line)) for line in lines]


def links(page: Path) -> list[str]:
    """Return the targets of the page's links."""
    return _LINK.findall(page.read_text())
