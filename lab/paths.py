"""Where things are in a checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
PRESETS = ROOT / "loadtest" / "presets"
#: POOLSCOPE_RESULTS puts the runs elsewhere.
RESULTS = Path(os.environ.get("POOLSCOPE_RESULTS") or ROOT / "results")
ENV_FILE = Path(os.environ.get("POOLSCOPE_ENV_FILE") or ROOT / ".env")
ENV_EXAMPLE = ROOT / ".env.example"
