"""A headless Chromium, pages of a made-up run, and what every page has to keep to."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright
from rich.console import Console

from lab.files import write_atomic
from lab.report import groups, web
from lab.results import Run
from lab.snapshot import archive, command
from tests.browser.made import made_up

FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, of the host: no browser is downloaded."""
    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if program is None:
        pytest.skip("no Chromium here (`apt install chromium`, or name it by CHROMIUM)")
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=flags)
        yield found
        found.close()


@dataclass
class Opened:
    """A page, all that it asked for, and all that it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def draw(self) -> None:
        """Draw what is out of view too, and wait for it."""
        self.page.evaluate("Poolscope.drawAll()")
        self.page.wait_for_selector(".panel", state="attached")

    def until(self, expression: str, within_s: float = 30) -> None:
        """Wait for a script's value to be true.

        Not wait_for_function: it polls by eval(), which the page's own policy forbids.
        """
        deadline = time.monotonic() + within_s
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Return a function that opens an address and afterwards checks that nothing was wrong."""
    contexts: list[BrowserContext] = []
    pages: list[tuple[Opened, str]] = []

    def make(url: str, *, phone: bool = False, dark: bool = False, hash_: str = "") -> Opened:
        size = {"width": 390, "height": 844} if phone else {"width": 1366, "height": 768}
        context = browser.new_context(
            viewport=size, color_scheme="dark" if dark else "light", has_touch=phone
        )
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda m: found.complaints.append(f"{m.type}: {m.text}"))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))

        def asked(request: Request) -> None:
            found.requests.append(request.url)

        found.page.on("request", asked)
        found.page.goto(url + hash_)
        found.page.wait_for_selector("html[data-ready]", state="attached")
        pages.append((found, url))
        return found

    yield make
    for found, url in pages:
        assert found.complaints == []
        origin = url if url.startswith("file:") else "/".join(url.split("/")[:3])
        for asked in found.requests:
            assert asked.startswith((origin, "data:")), asked
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of twelve cells with panels, snapshots and report; all of it made up."""
    whole = made_up(tmp_path_factory.mktemp("browser"))
    command.make(whole, command.Wanted(), Console(file=io.StringIO()))
    view = groups.view(whole.manifest(), whole.records())
    write_atomic(whole.folder / "report.html", web.render(whole, view))
    assert archive.read(whole).dashboards
    return whole


@pytest.fixture(scope="session")
def snapshot_url(run: Run) -> str:
    """The snapshot's page, opened as a file: no server runs."""
    return url_of(run.folder / command.FOLDER / "dashboards.html")


@pytest.fixture(scope="session")
def report_url(run: Run) -> str:
    """The report, opened as a file."""
    return url_of(run.folder / "report.html")


def url_of(path: Path) -> str:
    return path.resolve().as_uri()
