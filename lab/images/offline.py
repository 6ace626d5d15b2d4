"""`make images-offline`: every image of the compose stack but Grafana, without pulling one.

The images answer to the same commands, variables, folders and accounts as the official ones, as
far as docker-compose.yml uses them. PgBouncer's and Poolscope's own are built from the same
Dockerfiles as ever, over another base.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lab.errors import ConfigError, ServiceError
from lab.files import write_atomic
from lab.images import base
from lab.images.base import DEBIAN_12, DEBIAN_13
from lab.images.engine import Engine
from lab.paths import ENV_FILE, ROOT
from lab.stack.home import Home

RECIPES = Path(__file__).parent / "recipes"
GRAFANA = (
    "Grafana is in no Debian release and is left out; `make snapshot` and `make watch` draw the "
    "same dashboards without it"
)


@dataclass(frozen=True)
class Recipe:
    """An image: its short name, the variable of docker-compose.yml, and what it is built over.

    Without a Dockerfile of its own in the checkout it is one of `recipes/`.
    """

    short: str
    variable: str
    base: str
    argument: str = "BASE"
    dockerfile: Path | None = None

    @property
    def name(self) -> str:
        """The image's full name."""
        return offline_name(self.short)

    @property
    def place(self) -> tuple[Path, Path]:
        """The Dockerfile and the folder that it copies from."""
        if self.dockerfile is not None:
            return self.dockerfile, ROOT
        return RECIPES / self.short / "Dockerfile", RECIPES / self.short


def offline_name(short: str) -> str:
    """Return the name of an offline image."""
    return f"poolscope/{short}:offline"


RECIPES_IN_ORDER = (
    Recipe("postgres", "POSTGRES_IMAGE", DEBIAN_13.name),
    Recipe(
        "pgbouncer",
        "PGBOUNCER_IMAGE",
        DEBIAN_13.name,
        argument="DEBIAN_IMAGE",
        dockerfile=ROOT / "pgbouncer" / "Dockerfile",
    ),
    Recipe("prometheus", "PROMETHEUS_IMAGE", DEBIAN_13.name),
    Recipe("postgres-exporter", "POSTGRES_EXPORTER_IMAGE", DEBIAN_13.name),
    Recipe("pgbouncer-exporter", "PGBOUNCER_EXPORTER_IMAGE", DEBIAN_13.name),
    Recipe("python", "PYTHON_IMAGE", DEBIAN_12.name),
    Recipe(
        "app",
        "POOLSCOPE_IMAGE",
        offline_name("python"),
        argument="PYTHON_IMAGE",
        dockerfile=ROOT / "apps" / "Dockerfile",
    ),
)


def variables() -> dict[str, str]:
    """Return the variables of docker-compose.yml, with the offline images as their values."""
    return {recipe.variable: recipe.name for recipe in RECIPES_IN_ORDER}


def missing(engine: Engine) -> list[str]:
    """Return the offline images that are not here."""
    return [recipe.name for recipe in RECIPES_IN_ORDER if engine.image(recipe.name) is None]


def build_all(home: Home, console: Console) -> None:
    """Build every image; what did not change is found and takes no time.

    Raises ServiceError without an engine, root or debootstrap, and where a build fails.
    """
    engine = Engine.open()
    folder = _folder(home)
    for debian in (DEBIAN_13, DEBIAN_12):
        started = time.monotonic()
        base.ensure(engine, debian, folder)
        _say(console, engine, debian.name, started)
    for recipe in RECIPES_IN_ORDER:
        started = time.monotonic()
        _build(engine, recipe, folder)
        _say(console, engine, recipe.name, started)
    console.print(GRAFANA, highlight=False)


def refresh(home: Home) -> None:
    """Bring the images of the checkout's own programs up to its files, in a second if they are.

    Raises ServiceError where what they are built over is not here, or a build fails.
    """
    engine = Engine.open()
    for recipe in RECIPES_IN_ORDER:
        if recipe.dockerfile is None:
            continue
        if engine.image(recipe.base) is None:
            raise ServiceError(f"no image {recipe.base} here; run `make images-offline` first")
        _build(engine, recipe, _folder(home))


def _build(engine: Engine, recipe: Recipe, folder: Path) -> None:
    arguments = {recipe.argument: recipe.base}
    if recipe.base == offline_name("python"):
        arguments |= package_index()
    engine.build(recipe.name, recipe.place, arguments, folder / f"{recipe.short}.log")


def _folder(home: Home) -> Path:
    folder = home.root / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _say(console: Console, engine: Engine, name: str, started: float) -> None:
    image = engine.image(name)
    size = f"{image.bytes / 1e6:.0f} MB" if image else "missing"
    took = time.monotonic() - started
    console.print(f"{name:<38} {size:>8} {took:>7.1f} s", highlight=False)


def package_index() -> dict[str, str]:
    """Return where this host's pip takes packages from, as build arguments.

    Raises ConfigError for an address with a password, which would stay in the image's history.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return index_arguments(done.stdout)


def index_arguments(config: str) -> dict[str, str]:
    """Return PIP_INDEX_URL and PIP_EXTRA_INDEX_URL from what `pip config list` printed.

    Of an install's own section, the environment's and the global one, the more special wins. What
    is no web address, such as a folder of this host, cannot be reached from a build.
    """
    found: dict[str, str] = {}
    rank = {"global": 0, "install": 1, ":env:": 2}
    lines = re.findall(r"^(\S+?)\.((?:extra-)?index-url)='(.*)'$", config, re.MULTILINE)
    for section, key, value in sorted(lines, key=lambda line: rank.get(line[0], -1)):
        if section not in rank:
            continue
        addresses = [word for word in value.split() if word.startswith(("http://", "https://"))]
        if any("@" in address.split("/")[2] for address in addresses):
            raise ConfigError(
                f"pip's {key} holds a user name or password, which would stay in the image; give "
                "it in ~/.netrc instead, or build where the index needs none"
            )
        if addresses:
            found[f"PIP_{key.upper().replace('-', '_')}"] = " ".join(addresses)
    return found


def env_file(name: str) -> Path:
    """Return the file that WRITE names; raise ConfigError unless it is there."""
    path = ROOT / name
    if not path.is_file():
        raise ConfigError(f"WRITE={name}: there is no {path}; `make setup` makes .env")
    return path


def tell(path: Path | None, console: Console) -> None:
    """Set the variables in an env file, or print the lines for one."""
    lines = [f"{name}={value}" for name, value in variables().items()]
    if path is None:
        console.print("put these lines into .env, or give WRITE=.env:", highlight=False)
        console.print("\n".join(lines), highlight=False)
        return
    write_atomic(path, with_lines(path.read_text(), lines), mode=path.stat().st_mode & 0o777)
    console.print(f"{len(lines)} images set in {path}", highlight=False)


def give_back(home: Home) -> None:
    """Give what root made in the checkout to the account that the checkout belongs to (sudo)."""
    owner = ROOT.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    tops = [path for path in (ENV_FILE, ROOT / ".venv", home.root) if path.is_relative_to(ROOT)]
    for path in (p for top in tops for p in (top, *top.rglob("*"))):
        if os.path.lexists(path) and path.lstat().st_uid == 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def with_lines(text: str, lines: list[str]) -> str:
    """Return an env file's text with NAME=value lines set, in place where the name is there."""
    wanted = {line.partition("=")[0]: line for line in lines}
    kept = [wanted.pop(line.partition("=")[0].strip(), line) for line in text.splitlines()]
    return "\n".join([*kept, *wanted.values()]) + "\n"
