"""Annotations to marks: moments that are the values, or regions of consecutive samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.prometheus import QueryRefused
from lab.snapshot.dashboards import filled
from lab.snapshot.frames import Mark, Span
from monitoring.signals import EVALUATION_INTERVAL_S

#: Most points of an annotation; Prometheus answers no more than 11000.
MAX_POINTS = 10_000
#: What Prometheus's times may differ by from the grid's, in seconds.
ROUNDING_S = 1e-3


def grid(over: Span, settled: float) -> Span:
    """Return the grid that annotations are asked on.

    It is finer than that of curves, since a window is short beside a run; and it ends later, since
    a moment is published once it is past.
    """
    end = max(settled, over.end)
    step = max(EVALUATION_INTERVAL_S, math.ceil((end - over.start) / MAX_POINTS))
    return Span(over.start, end, step)


def of_answer(
    annotation: Mapping[str, Any], answer: list[dict[str, Any]] | QueryRefused, step: float
) -> tuple[Mark, ...]:
    """Return the marks of an annotation's answer; values that are times are in milliseconds."""
    if isinstance(answer, QueryRefused):
        return ()
    by_value = str(annotation.get("useValueForTime", "")).lower() in ("true", "on")
    text = str(annotation.get("textFormat") or annotation.get("titleFormat") or "")
    found: dict[Mark, None] = {}
    for item in answer:
        words = filled(text, item["metric"])
        if by_value:
            marks = [Mark(float(value) / 1000, words) for _, value in item["values"]]
        else:
            marks = regions([float(moment) for moment, _ in item["values"]], words, step)
        found |= dict.fromkeys(marks)
    return tuple(sorted(found, key=lambda mark: mark.time))


def regions(moments: Sequence[float], text: str, step: float) -> list[Mark]:
    """Return samples that follow each other as one mark, as Grafana's data source does.

    A gap of more than a step ends one; a sample that stands alone is a moment.
    """
    found: list[Mark] = []
    before = -math.inf
    for moment in moments:
        if moment - before > step + ROUNDING_S:
            found.append(Mark(moment, text))
        else:
            found[-1] = replace(found[-1], end=moment)
        before = moment
    return found
