"""What the exporter takes from its environment."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ExporterSettings(BaseSettings):
    """Variables EXPORTER_HOST, EXPORTER_PORT and so on; nothing else is read.

    A DSN is libpq's, `host=127.0.0.1 port=5432 dbname=poolscope user=poolscope_exporter` or a URL.
    Passwords belong into EXPORTER_POSTGRES_PASSWORD and EXPORTER_PGBOUNCER_PASSWORD, or into the
    file that libpq's own PGPASSFILE names; one inside a DSN works too and is kept out of messages.
    """

    # A validation error would otherwise show the value, and with it a password.
    model_config = SettingsConfigDict(
        env_prefix="EXPORTER_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=9128, ge=0, le=65535, description="0 = any free one")
    state_file: Path = Field(description="which services run, written by the stack")
    cgroup_prefix: str | None = Field(
        default=None,
        description="services are the groups <prefix>-<service>.slice, not those of the state file",
    )
    cgroup_root: Path = Path("/sys/fs/cgroup")
    postgres_dsn: SecretStr | None = None
    postgres_password: SecretStr | None = None
    pgbouncer_dsn: SecretStr | None = Field(default=None, description="of the admin console")
    pgbouncer_password: SecretStr | None = None
    deadline_s: float = Field(
        default=1.5, gt=0, le=60, description="how long a scrape waits for PostgreSQL or PgBouncer"
    )

    @field_validator("postgres_dsn", "pgbouncer_dsn", mode="after")
    @classmethod
    def _is_a_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        try:
            conninfo_to_dict(value.get_secret_value())
        except psycopg.ProgrammingError:
            # libpq's message quotes the part that it stumbled over, which may be the password.
            raise ValueError("not a libpq connection string or URL") from None
        return value

    def postgres_conninfo(self) -> str | None:
        """Return the connection string for PostgreSQL with its password, or None if not wanted."""
        return _conninfo(self.postgres_dsn, self.postgres_password)

    def pgbouncer_conninfo(self) -> str | None:
        """Return the one for PgBouncer's console; its database is always named `pgbouncer`."""
        return _conninfo(self.pgbouncer_dsn, self.pgbouncer_password, dbname="pgbouncer")


def _conninfo(dsn: SecretStr | None, password: SecretStr | None, **fixed: str) -> str | None:
    if dsn is None:
        return None
    extra = dict(fixed)
    if password is not None and password.get_secret_value():
        extra["password"] = password.get_secret_value()
    return make_conninfo(dsn.get_secret_value(), **extra)
