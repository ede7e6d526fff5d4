"""The benchmarks' page: `benchmarks/README.md`, made from every record in `benchmarks/results/`.

python -m benchmarks.page
"""

import json
from pathlib import Path

from experiments import records

HERE = Path(__file__).resolve().parent
_INTRODUCTION = """# Benchmarks

Made from the records in `results/` by `python -m benchmarks.page`; only a run writes a record (`--record`).
Rates are medians of rounds that alternate between the rows of a table, in one run on one machine.
"""


def write(name: str, found: list[dict]):
  """Writes `benchmarks/results/NAME.json` and rebuilds the page."""
  records.write(HERE / "results" / f"{name}.json", found)
  build_page()


def build_page():
  """Rebuilds `benchmarks/README.md`."""
  lines = [_INTRODUCTION]
  for path in sorted((HERE / "results").glob("*.json")):
    rows = json.loads(path.read_text())
    lines += [f"## {path.stem.replace('_', ' ')}\n", f"`{rows[0]['command']}`, {rows[0]['machine']}\n"]
    lines += ["| what | tasks | value | unit |", "|---|---|---|---|"]
    lines += [f"| {r['measure']} | {r['tasks']} | {r['value']:g} | {r['unit']} |" for r in rows] + [""]
  (HERE / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
  build_page()
