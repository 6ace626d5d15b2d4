"""Base images: a small Debian made by debootstrap, where no image can be pulled.

The host's certificates are copied in: where a proxy with a certificate of its own stands between
this host and the package index, a Debian fresh from its packages would not trust it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ConfigError, ServiceError
from lab.images.engine import Engine
from lab.stack import toolchain

log = logging.getLogger(__name__)

LABEL = "poolscope.base"
#: Count up where `_finish` changes, so that existing bases are made again.
VERSION = 1
MIRROR_VARIABLE = "POOLSCOPE_DEBIAN_MIRROR"
KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")
NEWEST_KEY = KEYRING.with_name("debian-archive-trixie-stable.gpg")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

#: Nothing of this is needed to run a server; licences stay.
UNNEEDED = """\
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
"""


@dataclass(frozen=True)
class Base:
    """A base image and the Debian release that it is made of."""

    name: str
    release: str


DEBIAN_13 = Base("poolscope/debian:13-offline", "trixie")
DEBIAN_12 = Base("poolscope/debian:12-offline", "bookworm")


def ensure(engine: Engine, base: Base, folder: Path) -> bool:
    """Make a base image unless it is there and right; return whether it was made.

    `folder` is the lab's own, for fetched programs, logs and scratch. Raises ServiceError without
    root or debootstrap, ConfigError without a mirror.
    """
    source = mirror()
    wanted = fingerprint(base, source, BUNDLE.read_bytes() if BUNDLE.exists() else b"")
    if engine.label(base.name, LABEL) == wanted:
        return False
    if os.geteuid() != 0:
        raise ServiceError(
            f"{base.name} is made by debootstrap, which needs root; run `sudo make images-offline` "
            "once: later runs find it"
        )
    tools = _debootstrap(folder / "tools")
    scratch = Path(tempfile.mkdtemp(prefix=f"{base.release}-", dir=folder))
    try:
        _bootstrap(tools, base, source, scratch, folder / f"{base.release}.log")
        _finish(scratch)
        changes = [f"LABEL {LABEL}={wanted}", "ENV LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive"]
        engine.import_folder(base.name, scratch, [*changes, 'CMD ["/bin/bash"]'])
    finally:
        shutil.rmtree(scratch)
    return True


def fingerprint(base: Base, source: str, bundle: bytes) -> str:
    """Return what a base image depends on, as 16 hex digits."""
    parts = (base.release, source, UNNEEDED, str(VERSION), hashlib.sha256(bundle).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def mirror() -> str:
    """Return where Debian's packages come from: POOLSCOPE_DEBIAN_MIRROR, else the host's source.

    Raises ConfigError where neither is there.
    """
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return chosen.rstrip("/")
    if shutil.which("apt-get") is None:
        return choose_mirror("")
    columns = "$(COMPONENT) $(CODENAME) $(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", columns, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    return choose_mirror(done.stdout)


def choose_mirror(targets: str) -> str:
    """Return the first mirror among `component codename address` lines that holds Debian itself.

    Raises ConfigError where none does.
    """
    found = re.findall(r"^main (?:bookworm|trixie) (https?://\S+?)/?$", targets, re.MULTILINE)
    if not found:
        raise ConfigError(
            f"this host has no source of Debian packages; name one: {MIRROR_VARIABLE}=http://..."
        )
    return found[0]


@dataclass(frozen=True)
class _Tools:
    script: Path
    keyring: Path
    env: dict[str, str]


def _debootstrap(root: Path) -> _Tools:
    """Find debootstrap and the archive's keys on the host, else fetch them below `root`.

    The keys are older than Debian 13 on a Debian 12 that was not upgraded for long.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *toolchain.ADMIN_FOLDERS])
    installed = shutil.which("debootstrap", path=path)
    keys_are_new = (Path("/") / NEWEST_KEY).exists()
    absent = set() if installed else {"debootstrap", "wget"}
    absent |= set() if keys_are_new else {"debian-archive-keyring"}
    if absent and not root.exists():
        if shutil.which("apt-get") is None:
            raise ServiceError(
                f"this host has no {' and no '.join(sorted(absent))}, and no apt-get to fetch it "
                "with; install it (https://wiki.debian.org/Debootstrap)"
            )
        log.info("fetching %s into %s (once)", ", ".join(sorted(absent)), root)
        toolchain.fetch(absent, root)
    env = {"PATH": path}
    if not installed:
        env["PATH"] = os.pathsep.join([str(root / "usr/bin"), str(root / "usr/sbin"), path])
        env["DEBOOTSTRAP_DIR"] = str(root / "usr/share/debootstrap")
        env["LD_LIBRARY_PATH"] = ":".join(map(str, toolchain.library_folders(root)))
    keyring = (Path("/") if keys_are_new else root) / KEYRING
    return _Tools(Path(installed or root / "usr/sbin/debootstrap"), keyring, env)


def _bootstrap(tools: _Tools, base: Base, source: str, scratch: Path, log_file: Path) -> None:
    scratch.chmod(0o755)
    args = [str(tools.script), "--variant=minbase", f"--keyring={tools.keyring}"]
    args += ["--include=ca-certificates", base.release, str(scratch), source]
    log.debug("run %s", " ".join(args))
    with log_file.open("w") as output:
        env = {**os.environ, **tools.env, "LC_ALL": "C"}
        done = subprocess.run(args, stdout=output, stderr=subprocess.STDOUT, env=env, check=False)
    if done.returncode:
        last = log_file.read_text().strip().splitlines()[-1:]
        raise ServiceError(
            f"debootstrap of Debian {base.release} from {source} failed: {''.join(last)}; "
            f"see {log_file}"
        )


def _finish(root: Path) -> None:
    """Take out what no server needs, keep services from starting, and trust what the host does."""
    for folder in ("var/lib/apt/lists", "var/cache/apt/archives", "usr/share/man", "var/log"):
        for path in (root / folder).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(root / "usr/share/locale", ignore_errors=True)
    (root / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/dpkg/dpkg.cfg.d/poolscope").write_text(UNNEEDED)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # debootstrap leaves this host's name and resolver behind; Docker gives each container its own.
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
    if BUNDLE.exists():
        shutil.copyfile(BUNDLE, root / BUNDLE.relative_to("/"))
