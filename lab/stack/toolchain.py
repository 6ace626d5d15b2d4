"""The server programs: the host's own where they are there, else fetched unprivileged.

Fetching means `apt-get download` with lists and cache of our own, then `dpkg -x` into a folder of
ours: nothing is installed on the host and no service is started (Debian and Ubuntu).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ServiceError

log = logging.getLogger(__name__)

ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Need:
    """A program that the native stack runs, and where it comes from."""

    name: str
    executables: tuple[str, ...]
    package: str
    project: str


NEEDS = (
    Need("postgres", ("postgres", "initdb", "pgbench"), "postgresql", "https://www.postgresql.org"),
    Need("pgbouncer", ("pgbouncer",), "pgbouncer", "https://www.pgbouncer.org"),
    Need("prometheus", ("prometheus",), "prometheus", "https://prometheus.io"),
    Need("promtool", ("promtool",), "prometheus", "https://prometheus.io"),
    Need(
        "postgres_exporter",
        ("postgres_exporter", "prometheus-postgres-exporter"),
        "prometheus-postgres-exporter",
        "https://github.com/prometheus-community/postgres_exporter",
    ),
)


@dataclass(frozen=True)
class Toolchain:
    """Paths of the programs, and the libraries that the fetched ones need.

    `programs` maps initdb, postgres, pgbench, pgbouncer, prometheus, promtool and
    postgres_exporter to a path.
    """

    programs: dict[str, Path]
    fetched_root: Path

    def env(self, name: str) -> dict[str, str]:
        """Return the environment that a program needs: library folders for a fetched one."""
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        if self.programs[name].is_relative_to(self.fetched_root):
            env["LD_LIBRARY_PATH"] = ":".join(map(str, library_folders(self.fetched_root)))
        return env

    def version(self, name: str) -> str:
        """Return a program's own word on its version, its first number with dots."""
        output = subprocess.run(
            [str(self.programs[name]), "--version"],
            env=self.env(name),
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"\d+(\.\d+)+", output.stdout + output.stderr)
        if found is None:
            raise ServiceError(f"{self.programs[name]} --version failed: {output.stderr.strip()}")
        return found.group()


def find(root: Path) -> dict[str, Path]:
    """Return the programs that are there, on the host or in the folder of fetched ones."""
    programs: dict[str, Path] = {}
    for need in NEEDS:
        if need.name == "postgres":
            programs |= _find_postgres(root)
            continue
        for executable in need.executables:
            folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *ADMIN_FOLDERS])
            fetched = os.pathsep.join(str(root / f) for f in ("usr/bin", "usr/sbin"))
            if path := shutil.which(executable, path=folders) or shutil.which(
                executable, path=fetched
            ):
                programs[need.name] = Path(path)
                break
    return programs


def _find_postgres(root: Path) -> dict[str, Path]:
    """Return initdb, postgres and pgbench of the newest version that has all three."""
    folders = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/usr").glob("pgsql-*/bin"),
        *(root / "usr/lib/postgresql").glob("*/bin"),
    ]
    if path := shutil.which("postgres"):
        folders.append(Path(path).resolve().parent)
    wanted = ("initdb", "postgres", "pgbench")
    whole = [f for f in folders if all(os.access(f / name, os.X_OK) for name in wanted)]
    if not whole:
        return {}
    newest = max(whole, key=lambda f: [int(n) for n in re.findall(r"\d+", f.parent.name)] or [0])
    return {name: newest / name for name in wanted}


def missing(programs: dict[str, Path]) -> list[Need]:
    """Return what is still needed."""
    return [need for need in NEEDS if need.name not in programs]


def ensure(root: Path) -> Toolchain:
    """Return the toolchain, fetched into `root` where the host does not have it.

    Raises ServiceError that names each missing program and how to get it.
    """
    needs = missing(find(root))
    if needs:
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise ServiceError(_how_to_get(needs, "this host has no apt to fetch them with"))
        names = ", ".join(need.name for need in needs)
        log.info("fetching %s from this host's package source into %s (once)", names, root)
        fetch({need.package for need in needs}, root)
    programs = find(root)
    if still := missing(programs):
        raise ServiceError(_how_to_get(still, "the host's package source did not have them"))
    return Toolchain(programs, root)


def _how_to_get(needs: Iterable[Need], why: str) -> str:
    names = ", ".join(f"{need.name} ({need.project})" for need in needs)
    return f"missing programs: {names}; {why}: install them so that they are on the PATH"


def fetch(packages: Iterable[str], root: Path) -> None:
    """Download packages with what they depend on and unpack them below `root`, all or nothing.

    Raises ServiceError with apt's last words.
    """
    root = root.resolve()
    state = root.parent / "apt"
    shutil.rmtree(state, ignore_errors=True)  # of one that was interrupted
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::State::Lists={state}/lists", "-o", f"Dir::Cache={state}/cache"),
        *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"),
        *("-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success="),
    ]
    # A third-party source of the host that does not answer is no reason to fail: what matters is
    # whether the packages are found afterwards.
    _run(["apt-get", *options, "-qq", "update"], state, check=False)
    simulated = _run(
        ["apt-get", *options, "-s", "--no-install-recommends", "install", *sorted(packages)], state
    )
    names = re.findall(r"^Inst (\S+)", simulated, re.MULTILINE)
    archives = state / "cache" / "archives"
    _run(["apt-get", *options, "-qq", "download", *names], archives)
    # Aside first: half a package that an interruption left would pass for a program that is there.
    unpacked = state / "unpacked"
    if root.exists():
        shutil.copytree(root, unpacked, symlinks=True, dirs_exist_ok=True)
    unpacked.mkdir(exist_ok=True)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(unpacked)], state)
    if root.exists():
        root.rename(state / "before")
    unpacked.rename(root)
    shutil.rmtree(state)


def _run(args: list[str], cwd: Path, *, check: bool = True) -> str:
    log.debug("run %s", " ".join(args))
    done = subprocess.run(
        args, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    if check and done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ServiceError(f"{args[0]} failed: {''.join(last)}; VERBOSE=1 shows the commands")
    return done.stdout


def library_folders(root: Path) -> list[Path]:
    """Return the folders below a fetched root that hold shared libraries."""
    bases = [base for base in (root / "usr/lib", root / "lib") if base.is_dir()]
    return [path for base in bases for path in (*base.glob("*-linux-gnu*"), base) if path.is_dir()]
