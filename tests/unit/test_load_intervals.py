"""Merging interval logs: every processes' seconds, and honest about those that are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import ResultError
from lab.intervals import IntervalFollower, merge, read
from loadtest.intervals import encode_histogram, histogram_index


def line(start: int, latencies_ms=(), *, status="200", users=2, cpu_s=0.0, **fields) -> str:
    counts: dict[int, int] = {}
    for ms in latencies_ms:
        index = histogram_index(int(ms * 1000))
        counts[index] = counts.get(index, 0) + 1
    answered = status != "0"
    return (
        json.dumps(
            {
                "start": start,
                "end": start + 1,
                "users": users,
                "responses": len(latencies_ms) if answered else 0,
                "failures": 0 if status == "200" else len(latencies_ms),
                "statuses": {status: len(latencies_ms)} if latencies_ms else {},
                "errors": {},
                "sum_ms": sum(latencies_ms),
                "hdr": encode_histogram(counts),
                "cpu_s": cpu_s,
                "cpu_at": start + 1.0,
                **fields,
            }
        )
        + "\n"
    )


def write(folder: Path, process: int, *lines: str) -> Path:
    path = folder / f"intervals-{process}.jsonl"
    path.write_text("".join(lines))
    return path


def test_read_merges_processes_by_second(tmp_path):
    write(tmp_path, 1, line(10, [1, 2]), line(11, [3]))
    write(tmp_path, 2, line(11, [5], users=3), line(12, [7]))
    ten, eleven, twelve = read(tmp_path)
    assert [i.start for i in (ten, eleven, twelve)] == [10, 11, 12]
    assert (eleven.users, eleven.responses, eleven.sum_ms) == (5, 2, 8)
    assert set(eleven.cpu) == {"intervals-1", "intervals-2"}


def test_read_leaves_out_a_truncated_last_line(tmp_path):
    whole = line(10, [1])
    write(tmp_path, 1, whole, line(11, [1])[:40])
    assert [i.start for i in read(tmp_path)] == [10]


def test_read_refuses_a_damaged_line(tmp_path):
    write(tmp_path, 1, line(10)[:40] + "\n", line(11))
    with pytest.raises(ResultError, match=r"intervals-1.jsonl is damaged"):
        read(tmp_path)


def test_read_of_no_log_is_empty(tmp_path):
    assert read(tmp_path) == []


def test_merge_takes_whole_seconds_within_the_window(tmp_path):
    """10.4 to 13.9 holds 11 and 12; percentiles are over all requests, to 3 digits."""
    seconds = [line(s, [s] * 10, cpu_s=0.5 * (s - 9)) for s in range(10, 15)]
    write(tmp_path, 1, *seconds)
    window = merge(read(tmp_path), 10.4, 13.9)
    assert (window.window_s, window.responses, window.rps) == (2, 20, 10)
    assert window.p50_ms == pytest.approx(11, rel=0.001)
    assert window.max_ms == pytest.approx(12, rel=0.001)
    assert window.mean_ms == pytest.approx(11.5)
    assert window.generator_cpu == pytest.approx(0.5)
    assert window.missing_s == ()
    assert [point["t"] for point in window.timeline] == [11, 12]
    assert (window.users_min, window.users_max) == (2, 2)


def test_merge_counts_failures_apart(tmp_path):
    """Only successes make rps; no answer is an attempt and a failure but no response."""
    write(
        tmp_path, 1, line(10, [1] * 6), line(11, [1] * 2, status="0"), line(12, [9], status="503")
    )
    window = merge(read(tmp_path), 10, 13)
    assert (window.attempts, window.responses, window.failures) == (9, 7, 3)
    assert window.rps == 2
    assert window.error_rate == pytest.approx(1 / 3)
    assert window.statuses == {"0": 2, "200": 6, "503": 1}


def test_merge_reports_missing_partial_and_incomplete_seconds(tmp_path):
    write(tmp_path, 1, line(10, [1]), line(11, [1]), line(13, [1]), line(14, [1], end=14.5))
    write(tmp_path, 2, line(10, [1]), line(13, [1]), line(14, [1]))
    window = merge(read(tmp_path), 10, 16)
    assert window.missing_s == (11, 12, 14, 15)
    assert (window.window_s, window.responses) == (2, 4)


def test_merge_without_a_whole_second_is_refused(tmp_path):
    write(tmp_path, 1, line(10))
    with pytest.raises(ResultError, match="no whole second from 20 to 30"):
        merge(read(tmp_path), 20, 30)


def test_merge_without_requests_has_no_times(tmp_path):
    write(tmp_path, 1, line(10), line(11))
    window = merge(read(tmp_path), 10, 12)
    assert (window.rps, window.mean_ms, window.p95_ms, window.error_rate) == (0, None, None, None)
    assert "p95_ms" not in window.timeline[0]


def test_merge_gives_the_busiest_process(tmp_path):
    """CPU is counted from the second before the window, where there is one."""
    write(tmp_path, 1, *(line(s, cpu_s=0.2 * s) for s in (9, 10, 11)))
    write(tmp_path, 2, *(line(s, cpu_s=0.9 * s) for s in (9, 10, 11)))
    assert merge(read(tmp_path), 10, 12).generator_cpu == pytest.approx(0.9)
    assert merge(read(tmp_path), 9, 10).generator_cpu is None


def test_follower_gives_the_newest_second_all_reported(tmp_path):
    follower = IntervalFollower(tmp_path)
    assert follower.poll() is None
    first = write(tmp_path, 1, line(10, [1]))
    second = write(tmp_path, 2, line(10, [1]))
    newest = follower.poll()
    assert newest is not None
    assert (newest.start, newest.responses) == (10, 2)
    with first.open("a") as file:
        file.write(line(11, [1]))
    assert follower.poll() is newest
    with second.open("a") as file:
        file.write(line(11, [4])[:30])
    assert follower.poll() is newest
    second.write_text(line(10, [1]) + line(11, [4]))
    newest = follower.poll()
    assert newest is not None
    assert (newest.start, newest.responses, newest.rps) == (11, 2, 2)
    assert newest.p95_ms == pytest.approx(4, rel=0.001)


def test_follower_does_not_wait_for_a_dead_process(tmp_path):
    follower = IntervalFollower(tmp_path)
    write(tmp_path, 1, *(line(s, [1]) for s in (10, 11, 12, 13)))
    write(tmp_path, 2, line(10, [1]))
    newest = follower.poll()
    assert newest is not None
    assert newest.start == 13
