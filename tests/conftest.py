"""What unit and integration tests share: a home, results and .env of their own."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

_scratch = Path(tempfile.mkdtemp(prefix="poolscope-tests-"))
# Set before anything of the lab is imported: the tests never touch the checkout's own data, and
# servers that drop root can reach a folder below the temporary one.
_scratch.chmod(0o755)
os.environ["POOLSCOPE_HOME"] = str(_scratch / "home")
os.environ["POOLSCOPE_RESULTS"] = str(_scratch / "results")
os.environ["POOLSCOPE_ENV_FILE"] = str(_scratch / "env")

# As lab.interrupts does: ignored where the tests run in the background, it ends no server.
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

from lab.stack import toolchain  # noqa: E402
from lab.stack.home import locate  # noqa: E402
from lab.stack.toolchain import Toolchain  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def programs() -> Toolchain:
    """The server programs, fetched where the host lacks them: no test is skipped for one."""
    tools = toolchain.ensure(shared_toolchain())
    for name, path in tools.programs.items():
        os.environ[name.upper()] = str(path)
    return tools


def shared_toolchain() -> Path:
    """Return the checkout's folder of fetched programs, so that they are fetched once."""
    own = os.environ.pop("POOLSCOPE_HOME")
    try:
        return locate().toolchain
    finally:
        os.environ["POOLSCOPE_HOME"] = own


def pytest_sessionfinish() -> None:
    """Remove what the tests wrote."""
    shutil.rmtree(_scratch, ignore_errors=True)
