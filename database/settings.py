"""What provisioning takes from its environment, typed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

DATABASE = "poolscope"
SERVICE_ROLE = "poolscope_service"
EXPORTER_ROLE = "poolscope_exporter"
PGBOUNCER_STATS_ROLE = "poolscope_pgbouncer_stats"


class SeedSettings(BaseSettings):
    """Sizes in rows, and the seed; together they decide every byte of the data."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    seed_users: int = Field(10_000, ge=1, le=10_000_000)
    seed_posts: int = Field(50_000, ge=1, le=10_000_000)
    seed_comments: int = Field(100_000, ge=0, le=50_000_000)
    seed: int = Field(42, ge=0, le=2**63 - 1)


class ProvisionSettings(SeedSettings):
    """Where PostgreSQL is, and what it shall hold."""

    postgres_host: str = "127.0.0.1"
    postgres_port: int = Field(5432, ge=1, le=65535)
    postgres_user: str = Field("postgres", description="a superuser")
    postgres_password: SecretStr = Field(min_length=1)

    service_db_password: SecretStr = Field(min_length=1)
    exporter_db_password: SecretStr = Field(min_length=1)
    pgbouncer_auth_type: Literal["scram-sha-256", "md5"] = "scram-sha-256"
    scram_iterations: int = Field(4096, ge=1, le=1_000_000)
    db_statement_timeout: int = Field(30_000, ge=0, le=3_600_000, description="milliseconds")

    pgbouncer_userlist: Path | None = Field(None, description="where to write the user list")
    pgbouncer_stats_password: SecretStr | None = Field(None, min_length=1)


def problem(error: ValidationError) -> str:
    """Return one line that names each wrong variable, its value and what is allowed.

    The value of a password is never in it.
    """
    lines = []
    for item in error.errors():
        name = str(item["loc"][0]).upper() if item["loc"] else "settings"
        shown = "" if "password" in name.lower() or item["type"] == "missing" else item["input"]
        lines.append(f"{name}{f'={shown}' if shown != '' else ''}: {item['msg'].lower()}")
    return "; ".join(lines)
