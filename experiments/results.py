"""Rebuilds the results page, experiments/README.md, from the records in experiments/results.

python -m experiments.results
"""

from pathlib import Path

from metajax.experiment.records import read
from metajax.experiment.results_page import build_page

HERE = Path(__file__).resolve().parent


def main():
  """Rebuilds the results page and prints its path."""
  print(build_page(HERE, {path.stem: read(path) for path in sorted((HERE / "results").glob("*.json"))}))


if __name__ == "__main__":
  main()
