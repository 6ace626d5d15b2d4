"""What the dashboards show of a run, kept: queries to frames, frames to files that open anywhere.

`collect` asks Prometheus once, at the end of a run, and leaves `panels.json.gz`; everything else
reads that file and no server. `live` asks Prometheus for a page that follows it.
"""
