"""The objective for latency that alerts hold a service to; both numbers are Poolscope's choice.

The target has to be a bound of the latency histogram's buckets. 250 ms for 95% of the requests lies
between a service with room (P95 of 65 to 82 ms at 10 users) and a saturated one (304 to 605 ms at
100 users): README.md, "A real result".
"""

from __future__ import annotations

#: A request that takes longer, inside the service, is late.
LATENCY_TARGET_S = 0.25
#: Share of the requests that may be late.
LATE_BUDGET = 0.05
