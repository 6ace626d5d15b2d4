"""How long a snapshot of all dashboards takes, and how long a page takes to open and draw."""

from __future__ import annotations

import io
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from lab.results import Run
from lab.snapshot import command, dashboards

ROUNDS = 7
#: Settled once every chart in view has been drawn; the page's policy forbids polling by eval().
DRAWN = """
() => new Promise((settle) => {
  const drawn = () => Poolscope.charts.size > 0
    && [...Poolscope.charts].every((c) => c.u.status)
    && !document.querySelector('.dashboard:not([hidden]) .panel-body:empty');
  const look = () => drawn() ? settle() : requestAnimationFrame(look);
  look();
})
"""
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


def measure(run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield a line for the snapshot of a run, and one for each page that opens."""
    began = time.perf_counter()
    made = command.make(run, command.Wanted(), Console(file=io.StringIO()))
    took = time.perf_counter() - began
    yield "snapshot of all dashboards", f"{took:.1f} s", "at most 10 s"
    page = made[0]
    yield "its page", f"{page.stat().st_size / 1e6:.2f} MB", "at most 3 MB"
    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if program is None:
        yield "a page opens and draws", "no Chromium here", "at most 1.5 s"
        return
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        for uid in (d.uid for d in dashboards.load()):
            yield f"{uid} opens and draws", _drawn(browser, page, f"#{uid}"), "at most 1.5 s"
        yield "report.html opens", _drawn(browser, run.folder / "report.html", ""), "at most 1.5 s"
        browser.close()


def _drawn(browser: Browser, page: Path, anchor: str) -> str:
    """Return how long an address takes in a fresh context, all panels drawn, out of view too."""
    took = []
    for _ in range(ROUNDS):
        tab = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        began = time.perf_counter()
        tab.goto(page.resolve().as_uri() + anchor)
        tab.evaluate("Poolscope.drawAll()")
        if tab.locator("canvas").count():
            tab.evaluate(DRAWN)
        # Two frames later it is on the screen.
        tab.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        took.append(time.perf_counter() - began)
        tab.context.close()
    return f"median {statistics.median(took):.2f} s, most {max(took):.2f} s"
