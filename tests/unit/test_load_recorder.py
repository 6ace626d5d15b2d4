"""The recorder: every request in the second in which it ended, and a true HDR histogram."""

from __future__ import annotations

import json
import os
import random
import socket
from types import SimpleNamespace

import pytest
from hdrh.histogram import HdrHistogram

from lab import intervals as reader
from loadtest.exposition import BUCKETS_S, LoadCollector, LoadTotals
from loadtest.intervals import (
    DIGITS,
    HIGHEST_INDEX,
    HIGHEST_US,
    LOWEST_US,
    MAX_ERROR_KINDS,
    OTHER_ERRORS,
    IntervalLog,
    Recorder,
    Second,
    describe_failure,
    encode_histogram,
    histogram_index,
    index_floor_us,
)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def answer(status: int, content: bytes = b"") -> SimpleNamespace:
    return SimpleNamespace(status_code=status, content=content)


def record(recorder: Recorder, ms: float, status: int = 200, error: Exception | None = None):
    recorder.record(response_time=ms, response=answer(status), exception=error, name="/x")


def test_histogram_index_equals_the_librarys_own():
    """The inlined index is HdrHistogram's, from 0 to an hour."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    draw = random.Random(1)
    values = [0, 1, 1023, 1024, 2047, 2048, 4095, 4096, HIGHEST_US]
    values += [int(10 ** draw.uniform(0, 9.5)) for _ in range(2000)]
    for value in values:
        index = histogram_index(value)
        assert index == histogram.get_counts_array_index(value)
        assert index_floor_us(index) == histogram.get_lowest_equivalent_value(value)


def test_recorder_counts_as_record_value_does():
    """A second's histogram equals one filled value by value, percentiles and all."""
    draw = random.Random(2)
    latencies_ms = [draw.lognormvariate(3, 1) for _ in range(5000)]
    recorder = Recorder(Clock(10.5))
    expected = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for ms in latencies_ms:
        record(recorder, ms)
        expected.record_value(int(ms * 1000 + 0.5))
    [second] = recorder.close_until(11)
    got = reader.decode([encode_histogram(second.counts)])
    assert got.total_count == 5000
    for percentile in (0.1, 50, 95, 99, 99.9, 100):
        assert got.get_value_at_percentile(percentile) == expected.get_value_at_percentile(
            percentile
        )
    assert second.sum_ms == pytest.approx(sum(latencies_ms))


def test_latency_beyond_an_hour_counts_as_an_hour():
    recorder = Recorder(Clock(0))
    record(recorder, 9e9)
    [second] = recorder.close_until(1)
    assert reader.percentiles(reader.decode([encode_histogram(second.counts)]), [100])[
        0
    ] == pytest.approx(HIGHEST_US / 1000, rel=0.002)


def test_late_writer_still_gets_each_second_its_own_requests():
    """A writer that comes 3 s late finds every request where it ended, and empty seconds too."""
    clock = Clock(100.2)
    recorder = Recorder(clock)
    record(recorder, 1)
    clock.now = 101.9
    record(recorder, 2)
    record(recorder, 3)
    clock.now = 103.01
    record(recorder, 4)
    closed = recorder.close_until(103)
    assert [(s.start, sum(s.statuses.values())) for s in closed] == [(100, 1), (101, 2), (102, 0)]
    assert recorder.current.start == 103
    assert recorder.close_until(103) == []


def test_clock_set_back_loses_nothing():
    clock = Clock(100.0)
    recorder = Recorder(clock)
    clock.now = 97.0
    record(recorder, 1)
    assert recorder.close_until(97) == []
    assert recorder.close_until(101)[0].statuses == {200: 1}


def test_failures_count_by_status_and_kind():
    """No answer is status 0 and a failure; a bad status names the service's own code."""
    recorder = Recorder(Clock(0))
    refused = ConnectionRefusedError(111, "Connection refused")
    record(recorder, 1, 0, refused)
    body = b'{"error":"pool-timeout","detail":"..."}'
    recorder.record(response_time=5.0, response=answer(503, body), exception=ValueError())
    record(recorder, 1)
    second = recorder.current
    assert second.statuses == {0: 1, 503: 1, 200: 1}
    assert second.failures == 2
    assert second.errors == {
        "ConnectionRefusedError: Connection refused": 1,
        "HTTP 503 pool-timeout": 1,
    }


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b"", None])
def test_failure_without_a_json_code_is_its_status(content):
    assert describe_failure(502, answer(502, content), ValueError("x")) == "HTTP 502"


def test_kinds_of_errors_are_bounded():
    recorder = Recorder(Clock(0))
    for number in range(MAX_ERROR_KINDS + 7):
        record(recorder, 1, 0, OSError(f"kind {number}"))
    assert len(recorder.current.errors) == MAX_ERROR_KINDS + 1
    assert recorder.current.errors[OTHER_ERRORS] == 7


def test_interval_log_writes_the_contract(tmp_path):
    """Each line can be read at once, and has every field."""
    log = IntervalLog(tmp_path / "new")
    second = Second(50, counts={2000: 2}, statuses={200: 1, 0: 1}, failures=1, sum_ms=4.0)
    log.write(second, users=3, now=51.004)
    assert log.path.name == f"intervals-{socket.gethostname()}-{os.getpid()}.jsonl"
    line = json.loads(log.path.read_text())
    assert {name: line[name] for name in ("start", "end", "users", "responses", "failures")} == {
        "start": 50,
        "end": 51,
        "users": 3,
        "responses": 1,
        "failures": 1,
    }
    assert line["statuses"] == {"0": 1, "200": 1}
    assert line["cpu_s"] > 0
    log.write(Second(51), users=0, now=51.25, abandoned=2)
    last = json.loads(log.path.read_text().splitlines()[-1])
    assert (last["end"], last["abandoned"]) == (51.25, 2)
    assert reader.decode([last["hdr"]]).total_count == 0


def test_totals_become_metrics():
    """Buckets, statuses and CPU of two processes are summed, the unfinished second included."""
    totals = LoadTotals()
    totals.add(
        Second(1, counts={histogram_index(1000): 2, HIGHEST_INDEX + 5: 1}, statuses={200: 3})
    )
    now = Second(2, counts={histogram_index(1001): 1}, statuses={503: 1}, failures=1, sum_ms=500)
    both = [totals.snapshot([now], 4, "0"), LoadTotals().snapshot([], 5, "1")]
    assert totals.snapshot([], 0, "0")["failures"] == 0
    families = {f.name: f for f in LoadCollector(lambda: both, "GET", "/x").collect()}
    samples = {
        (s.name, s.labels.get("le") or s.labels.get("status") or s.labels.get("process")): s.value
        for f in families.values()
        for s in f.samples
    }
    name = "locust_request_duration_seconds"
    assert samples[f"{name}_bucket", "0.001"] == 2
    assert samples[f"{name}_bucket", "0.002"] == 3
    assert samples[f"{name}_bucket", str(BUCKETS_S[-1])] == 3
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", None] == 4
    assert samples["locust_requests_total", "200"] == 3
    assert samples["locust_failures_total", None] == 1
    assert samples["locust_users", None] == 9
    assert samples["locust_process_cpu_seconds_total", "1"] > 0
