"""Poolscope's own exporter: what no packaged exporter gives.

`python -m monitoring.exporter` serves it; `settings.py` says what it takes from the environment.
A figure that cannot be had is absent, never 0: its collector's `poolscope_collector_up` is 0. A
collector whose server does not run has no such series; `poolscope_collector_due` is 0 then.
"""
