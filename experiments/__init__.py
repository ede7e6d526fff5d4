"""One script per result: `python -m experiments.NAME --help`."""
