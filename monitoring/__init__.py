"""What is watched and how: signals, recording rules, Prometheus, and Poolscope's own exporter."""
