"""CPU, limits, throttling and memory of each service, under cAdvisor's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from monitoring.exporter.cgroups import Usage, read_cgroup
from monitoring.exporter.parents import ParentGroups, ParentReader
from monitoring.exporter.processes import TreeReader
from monitoring.exporter.reading import FAILURES, Reading, counter, gauge
from monitoring.exporter.state import ServiceState, load_state

#: Where the kernel does not say: its own default, and the one of Docker.
DEFAULT_PERIOD_US = 100_000

_COUNTERS: dict[str, tuple[str, Callable[[Usage], float | None]]] = {
    "container_cpu_usage_seconds_total": ("CPU time used", lambda u: u.cpu_s),
    "container_cpu_cfs_periods_total": ("Elapsed enforcement periods", lambda u: u.periods),
    "container_cpu_cfs_throttled_periods_total": (
        "Periods in which the quota ran out",
        lambda u: u.throttled_periods,
    ),
    "container_cpu_cfs_throttled_seconds_total": (
        "Time runnable tasks were held back by the quota",
        lambda u: u.throttled_s,
    ),
}
_GAUGES: dict[str, tuple[str, Callable[[Usage], float | None]]] = {
    "container_spec_cpu_quota": (
        "CPU time allowed per period, in microseconds; absent without a limit",
        lambda u: u.quota_us,
    ),
    "container_spec_cpu_period": (
        "Length of a period in microseconds",
        lambda u: u.period_us,
    ),
    "container_memory_working_set_bytes": (
        "Memory used, without the file cache that can be dropped",
        lambda u: u.working_set_bytes,
    ),
    "container_spec_memory_limit_bytes": (
        "Memory limit; absent without one",
        lambda u: u.memory_limit_bytes,
    ),
}


@dataclass
class ContainersSource:
    """Reads the cgroup of each service in the state file, or its processes where it has none.

    With `groups`, the services are those of a compose project, and the file is not read.
    """

    state_file: Path
    name: str = "containers"
    trees: TreeReader = field(default_factory=TreeReader)
    groups: ParentGroups | None = None
    parents: ParentReader = field(default_factory=ParentReader)

    def read(self) -> Reading:
        """Return the figures of every service that can be read."""
        reading = Reading()
        usages: dict[str, Usage] = {}
        for service, read in self._services():
            try:
                usages[service] = read()
            except FAILURES as error:
                reading.problems.append(f"{service}: {error}")
        for families, build in ((_COUNTERS, counter), (_GAUGES, gauge)):
            for name, (text, figure) in families.items():
                rows = [((service,), figure(usage)) for service, usage in usages.items()]
                reading.families.append(build(name, text, ["name"], rows))
        return reading

    def _services(self) -> Iterator[tuple[str, Callable[[], Usage]]]:
        if self.groups is not None:
            for service, folders in self.groups.find().items():
                yield service, partial(self.parents.read, service, folders)
            return
        for service, state in load_state(self.state_file).services.items():
            yield service, partial(self._usage, state)

    def _usage(self, state: ServiceState) -> Usage:
        if state.cgroup:
            usage = read_cgroup(state.cgroup)
        elif state.pid is not None:
            cpu_s, resident_bytes = self.trees.read(state.pid)
            usage = Usage(cpu_s=cpu_s, working_set_bytes=resident_bytes)
        else:
            raise ValueError("state file gives neither a cgroup nor a pid")
        return _with_limits(usage, state)


def _with_limits(usage: Usage, state: ServiceState) -> Usage:
    """Take the limits of the state file where the cgroup itself holds none (a parent may)."""
    if usage.quota_us is None and state.cpus is not None:
        period = usage.period_us or DEFAULT_PERIOD_US
        usage = replace(usage, quota_us=round(state.cpus * period), period_us=period)
    if usage.memory_limit_bytes is None:
        usage = replace(usage, memory_limit_bytes=state.memory_bytes)
    return usage
