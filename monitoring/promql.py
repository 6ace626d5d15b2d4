"""Pieces of PromQL that several signals are made of."""

from __future__ import annotations

from monitoring.signal import SCRAPE_INTERVAL_S, WINDOW_S

W = f"[{WINDOW_S['service']}s]"  # also Locust's and Poolscope's exporter's
SLOW_W = f"[{WINDOW_S['postgres']}s]"
#: How long the series of a server that did not answer may still be counted: one lost scrape.
LOST = {W: f"[{2 * SCRAPE_INTERVAL_S['service'] + 1}s]",
        SLOW_W: f"[{2 * SCRAPE_INTERVAL_S['postgres'] + 1}s]"}  # fmt: skip
LOAD_HANDLERS = '{handler=~"/benchmark/.*"}'
LOAD_FAILURES = '{handler=~"/benchmark/.*", status=~"5.."}'
DATABASE = '{datname="poolscope"}'
#: The console is a database of its own, and this exporter a client of it.
POOLED = '{database="poolscope"}'
HOST_CORES = 'count(node_cpu_seconds_total{mode="idle"})'


def present(series: str, window: str = W) -> str:
    """Return the series that are there now, or would be if one scrape had not been lost.

    What has ended lacks in a scrape that was answered, or its server was not due meanwhile.
    """
    since = due_of(f"min_over_time(poolscope_target_due{LOST[window]})")
    down = f"(up == 0 unless on(job) {since} == 0)"
    return f"({series} or last_over_time({series}{LOST[window]}) and on(job) {down})"


def grown(metric: str, selector: str = "", window: str = W) -> str:
    """Return the increase per second of each series of a counter that is still there.

    A rate alone looks back: a window long it would go on for a server that has ended, into the next
    cell.
    """
    series = f"{metric}{selector}"
    return f"(rate({series}{window}) and {present(series, window)})"


def due_of(expr: str) -> str:
    """Return poolscope_target_due, or what is made of it, by scrape job."""
    return f'label_replace({expr}, "job", "$1", "target", "(.+)")'


def rate(metric: str, selector: str = "", window: str = W) -> str:
    """Return the increase per second of a counter, all of its series together."""
    return f"sum{grown(metric, selector, window)}"


def ratio(above: str, below: str) -> str:
    """Return a quotient that has no series while its divisor is 0, rather than NaN."""
    return f"{above} / ({below} > 0)"


def mean(histogram: str, selector: str = "") -> str:
    """Return the mean of what was observed in the window."""
    return ratio(rate(f"{histogram}_sum", selector), rate(f"{histogram}_count", selector))


def quantile(q: float, histogram: str, selector: str = "") -> str:
    """Return a quantile of what was observed in the window."""
    # Without observations the quantile is NaN, and NaN >= 0 is false: no series.
    return f"histogram_quantile({q}, sum by (le) {grown(histogram + '_bucket', selector)}) >= 0"


def cpu_share(services: str, single_threaded: bool = False) -> str:
    """Return CPU use of services over their limit; without a limit it is the host's cores.

    PgBouncer runs in one thread: above one core, its limit is that core.
    """
    name = f'{{name=~"{services}"}}'
    limit = (
        f"(max by (name) (container_spec_cpu_quota{name} / container_spec_cpu_period{name})"
        f" or on(name) (0 * max by (name) (container_cpu_usage_seconds_total{name})"
        f" + on() group_left() {HOST_CORES}))"
    )
    if single_threaded:
        limit = f"clamp_max({limit}, 1)"
    return f"sum by (name) {grown('container_cpu_usage_seconds_total', name)} / on(name) {limit}"


def throttled(services: str) -> str:
    """Return the share of enforcement periods in which the limit ran out, by service."""
    name = f'{{name=~"{services}"}}'
    periods = "container_cpu_cfs_periods_total"
    throttled = "container_cpu_cfs_throttled_periods_total"
    return (
        f"sum by (name) {grown(throttled, name)}"
        f" / on(name) (sum by (name) {grown(periods, name)} > 0)"
    )


def cpu_mode(modes: str) -> str:
    """Return the share of the host's CPU time that was spent in the modes."""
    return f"{rate('node_cpu_seconds_total', f'{{{modes}}}')} / {rate('node_cpu_seconds_total')}"


def due(expr: str, expected: str, label: str) -> str:
    """Return the expression without what is not due: what is not meant to run is not down."""
    return f"{expr} unless on({label}) (max by ({label}) ({expected}) == 0)"


def samples_missing() -> str:
    """Return the share of samples that are not there, by job, for each scrape interval."""
    parts = []
    for interval in sorted(set(SCRAPE_INTERVAL_S.values())):
        jobs = "|".join(sorted(job for job, s in SCRAPE_INTERVAL_S.items() if s == interval))
        up = f'up{{job=~"{jobs}"}}[{12 * interval}s]'
        parts.append(f"clamp_min(1 - avg by (job) (sum_over_time({up})) / 12, 0)")
    return " or ".join(parts)


#: Whether a scrape job's server is meant to run now; a job without it always is.
TARGET_DUE = due_of("poolscope_target_due")
