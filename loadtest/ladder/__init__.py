"""The write ladder's generator: writes rows into PostgreSQL by one method, the rung, and counts.

`python -m loadtest.ladder` runs one rung (settings in the environment, see `settings.py`);
`python -m loadtest.ladder --list` prints the rungs as JSON, `--rows COUNT SEED` the rows as text.
"""
