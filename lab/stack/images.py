"""The images of the compose stack: here already, built offline, pulled, or not to be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lab.errors import ConfigError, LabError
from lab.images import offline
from lab.settings import TOGGLES, Settings
from lab.stack import docker
from lab.stack.home import Home

log = logging.getLogger(__name__)

#: Built of this checkout rather than pulled: the compose service whose `build` does it.
OWN = {"PGBOUNCER_IMAGE": "pgbouncer", "POOLSCOPE_IMAGE": "fastapi"}
#: What own images are built on; no service runs it.
BASE = "PYTHON_IMAGE"


@dataclass(frozen=True)
class Images:
    """The image chosen for each variable; `grafana` is None where none can be had, with `why`."""

    chosen: dict[str, str]
    grafana: str | None
    why: str = ""
    offline: bool = False


def resolve(home: Home, s: Settings, build: Callable[[str], None]) -> Images:
    """Choose an image for every service, fetching those that are not here.

    `build(service)` builds an own image. An own image is brought up to the checkout's files, and
    then meant by its id: another checkout may give its name to another one at any time. Raises
    ConfigError for one that cannot be had.
    """
    chosen = {variable: _choose(s, variable) for variable in offline.variables()}
    if any(chosen[variable] == offline.variables()[variable] for variable in OWN):
        offline.refresh(home)
    for variable, image in chosen.items():
        if variable == BASE:
            continue
        if variable in OWN:
            if image == TOGGLES[variable].default:
                _build(variable, image, build)
            chosen[variable] = _id(image) or image
        elif not present(image):
            _pull(variable, image)
    built = bool(set(chosen.values()) & set(offline.variables().values()))
    if present(s.grafana_image):
        return Images(chosen, s.grafana_image, offline=built)
    if built:
        why = f"{s.grafana_image} is not here, and no Debian package has Grafana"
        return Images(chosen, None, why, offline=True)
    try:
        _pull("GRAFANA_IMAGE", s.grafana_image)
    except ConfigError as error:
        return Images(chosen, None, str(error))
    return Images(chosen, s.grafana_image)


def present(image: str) -> bool:
    """Return whether the engine has an image."""
    return bool(_id(image))


def _id(image: str) -> str:
    return docker.attempt(["docker", "image", "inspect", "--format", "{{.Id}}", image]).strip()


def _choose(s: Settings, variable: str) -> str:
    """Return the image of the settings, or the offline one where only that is here."""
    image = str(getattr(s, variable.lower()))
    built = offline.variables()[variable]
    if image == TOGGLES[variable].default and not present(image) and present(built):
        return built
    return image


def _pull(variable: str, image: str) -> None:
    log.info("pulling %s", image)
    try:
        docker.run(["docker", "pull", "--quiet", image])
    except LabError as error:
        raise ConfigError(
            f"{variable}={image} is not here and cannot be pulled ({_short(error)}); "
            f"`make images-offline` builds one from Debian packages, {docker.NATIVE}"
        ) from None


def _build(variable: str, image: str, build: Callable[[str], None]) -> None:
    if not present(image):
        log.info("building %s (once)", image)
    try:
        build(OWN[variable])
    except LabError as error:
        raise ConfigError(
            f"{variable}={image} cannot be built ({_short(error)}); "
            f"`make images-offline` builds it from Debian packages, {docker.NATIVE}"
        ) from None


def _short(error: LabError) -> str:
    return str(error).partition(" failed: ")[2][:160] or str(error)[:160]
