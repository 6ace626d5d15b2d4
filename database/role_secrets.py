"""What PostgreSQL and PgBouncer store of a password, computed here.

PostgreSQL before 16 always uses 4,096 iterations when it makes a SCRAM secret; one that is computed
by the client and given as it is may have any number (RFC 5802 section 3, RFC 7677).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Literal

AuthType = Literal["scram-sha-256", "md5"]

SALT_BYTES = 16
_SCRAM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def scram_secret(password: str, iterations: int, salt: bytes | None = None) -> str:
    """Return `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, with a random salt by default.

    Raises ValueError for a password that SASLprep could change, and for no iterations.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password must be printable ASCII and not empty")
    if iterations < 1:
        raise ValueError(f"SCRAM needs at least 1 iteration, got {iterations}")
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_b64(salt)}${_b64(stored_key)}:{_b64(server_key)}"


def md5_secret(user: str, password: str) -> str:
    """Return `md5` and the hash that PostgreSQL stores; the user's name is its salt."""
    digest = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return "md5" + digest


def role_secret(auth_type: AuthType, user: str, password: str, iterations: int) -> str:
    """Return a new secret of the kind that `auth_type` needs."""
    if auth_type == "md5":
        return md5_secret(user, password)
    return scram_secret(password, iterations)


def secret_fits(
    secret: str | None, auth_type: AuthType, user: str, password: str, iterations: int
) -> bool:
    """Say whether a stored secret is of this kind, this password and this many iterations.

    One that fits is kept, salt included: user lists and running services go on working.
    """
    if secret is None:
        return False
    if auth_type == "md5":
        return hmac.compare_digest(secret, md5_secret(user, password))
    parts = _SCRAM.fullmatch(secret)
    if parts is None or int(parts[1]) != iterations:
        return False
    expected = scram_secret(password, iterations, base64.b64decode(parts[2]))
    return hmac.compare_digest(secret, expected)


def userlist(rows: Iterable[tuple[str, str]]) -> str:
    """Return PgBouncer's user list for (role, secret) rows, as pg_authid has them.

    Raises ValueError for an empty secret, which PgBouncer would take for an empty password, and
    for a line break, which it cannot read.
    """
    lines = []
    for role, secret in rows:
        if not secret:
            raise ValueError(f"role {role} has no secret, so it cannot be in the user list")
        if any(ord(char) < 32 for char in role + secret):
            raise ValueError(f"role {role!r} cannot be in the user list: control character")
        lines.append(f"{_quote(role)} {_quote(secret)}\n")
    return "".join(lines)


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
