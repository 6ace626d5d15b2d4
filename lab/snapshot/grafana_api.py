"""A Grafana that snapshots are stored in."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from lab.errors import ServiceError
from lab.snapshot.grafana import QUERIES_SINCE

TIMEOUT_S = 20


@dataclass(frozen=True)
class Grafana:
    """One Grafana at its base address; raises ServiceError where it does not answer as asked."""

    base: str
    account: tuple[str, str] | None

    @classmethod
    def at(cls, url: str, password: str | None = None) -> Grafana:
        """Return the one at a URL, which may carry an account.

        With a `password`, it is Grafana's administrator that asks.
        """
        given = httpx.URL(url)
        base = str(given.copy_with(username=None, password=None)).rstrip("/")
        account = (given.username, given.password) if given.username else None
        if account is None and password:
            account = ("admin", password)
        return cls(base, account)

    def release(self) -> int:
        """Return the first number of its version; where it hides that, it counts as new."""
        try:
            version = str(self._ask("GET", "/api/health").json().get("version", ""))
        except (ValueError, AttributeError):
            version = ""
        found = re.match(r"v?(\d+)\.", version)
        return int(found[1]) if found else QUERIES_SINCE

    def address(self, key: str) -> str:
        """Return where a snapshot is found, on the same host: a browser may name that otherwise."""
        return f"{httpx.URL(self.base).path.rstrip('/')}/dashboard/snapshot/{key}"

    def post(self, body: Mapping[str, Any], key: str) -> str:
        """Store a snapshot under a key of ours and return its whole address.

        Grafana takes a given key since 6.2; so links can name a snapshot before it is stored.
        """
        keys = {"key": key, "deleteKey": new_key()}
        answer = self._ask("POST", "/api/snapshots", json={**body, **keys})
        try:
            data = answer.json()
            if answer.status_code == httpx.codes.OK and (stored := data.get("key")):
                return f"{self.base}/dashboard/snapshot/{stored}"
            reason = data.get("message", "")
        except (ValueError, AttributeError):
            reason = ""
        # From 11 on it stores a snapshot only of a dashboard that it has.
        step = (
            "it has to have the dashboards first: import monitoring/grafana/dashboards/*.json there"
            if "dashboard not found" in reason.lower()
            else "give an account that may create snapshots: "
            "GRAFANA_URL=http://user:password@host:port"
        )
        raise ServiceError(
            f"grafana at {self.base} refused the snapshot: {answer.status_code} "
            f"{reason or 'no reason'}; {step}"
        )

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return httpx.request(
                method, self.base + path, auth=self.account, timeout=TIMEOUT_S, trust_env=False,
                **options,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise ServiceError(
                f"grafana at {self.base} is not reachable: {error}; start it, or leave GRAFANA_URL "
                "out: the files are written and can be stored later"
            ) from None


def new_key() -> str:
    """Return a snapshot's name that nobody can guess: who knows it can read the snapshot."""
    return secrets.token_hex(16)
