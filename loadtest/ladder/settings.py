"""What the generator takes from its environment, typed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from loadtest.ladder.catalog import BY_NAME
from loadtest.ladder.contract import Rung, Target


class GeneratorSettings(BaseSettings):
    """One rung, how long and how fast, and where to."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="LADDER_")

    rung: str
    folder: Path
    host: str = "127.0.0.1"
    port: int = Field(5432, ge=1, le=65535)
    database: str = "poolscope"
    user: str = "poolscope_service"
    password: SecretStr
    prepares: bool = Field(True, description="prepared statements may outlive a transaction")
    seed: int = Field(42, ge=0)
    batch: int | None = Field(None, ge=1, le=100_000, description="rows; else the rung's own")
    pool: int | None = Field(None, ge=1, le=10_000, description="connections; else the rung's own")
    target_tps: float | None = Field(None, gt=0, description="rows per second; else all it can")
    warmup: float = Field(1, ge=0, description="seconds")
    duration: float = Field(8, gt=0, description="seconds")
    interval: float = Field(10, gt=0, description="seconds between lines of ladder_metrics.csv")
    metrics_port: int | None = Field(None, ge=1, le=65535)
    keep_acknowledgements: bool = Field(False, description="write when each batch was acknowledged")

    @model_validator(mode="after")
    def _known(self) -> GeneratorSettings:
        if self.rung not in BY_NAME:
            raise ValueError(f"unknown rung {self.rung!r}; rungs: {', '.join(BY_NAME)}")
        return self

    def make(self) -> Rung:
        """Return the rung, ready to be opened."""
        password = self.password.get_secret_value()
        target = Target(self.host, self.port, self.database, self.user, password, self.prepares)
        return BY_NAME[self.rung](target, self.batch, self.pool)
