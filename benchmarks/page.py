"""The page of the benchmarks: `benchmarks/README.md`, made from the records in `benchmarks/results/`.

python -m benchmarks.page
"""

import json
from pathlib import Path

from benchmarks import contrastive_page, meta_gradient_page, pods_page
from benchmarks.tables import Form, cells, heading
from metajax.experiment import records
from metajax.paths import alone, write_whole

HERE = Path(__file__).resolve().parent
_INTRODUCTION = """# Benchmarks

Made from the records in `results/` by `python -m benchmarks.page`; only a run writes a record (`--record`).
Rates are medians of rounds that alternate between the rows of a table, in one run on one machine.

The peers are PyTorch libraries. To install them into an environment with this project:

    pip install -e ".[bench]"
    pip install --no-deps higher==0.2.1
    pip download --no-deps --no-binary :all: learn2learn==0.2.0    # needs Cython, or fetch the archive

learn2learn 0.2.0 no longer builds completely, but its MAML works: copy the folders `learn2learn` and
`learn2learn.egg-info` of the archive into `site-packages`, and empty `learn2learn/__init__.py` and
`learn2learn/algorithms/__init__.py`. Missing peers are skipped. The peers of `contrastive_loss`, lightly and
open_clip, come with the `bench` extra; if their import after JAX crashes on a machine without an accelerator,
`pip uninstall triton` helps.
"""
_COLUMNS = {  # {key of a record: column of a plain table}
  "devices": "devices",
  "tasks": "tasks",
  "batch_size": "batch",
  "value": "value",
  "unit": "unit",
  "temporary_mebibytes": "temporary MiB",
  "beside": "relative to",
  "time_in_mamls": "time",
  "memory_in_mamls": "memory",
  "compile_seconds": "compile s",
  "collectives": "collectives",
  "collective_bytes": "collective bytes",
}
_OWN_FORM = {
  "pods": Form(pods_page.table, lambda path: None),
  "meta_gradient": Form(meta_gradient_page.table, meta_gradient_page.draw),
  "contrastive_loss": Form(contrastive_page.table, contrastive_page.draw),
}


def write(name: str, found: list[dict], of: tuple[str, ...] = ()):
  """Writes `benchmarks/results/NAME.json` and rebuilds the page.

  Args:
    name: Name of the benchmark.
    found: New records.
    of: Keys that identify a record: old records that agree with a new one in all of them are replaced, others kept. By
      default all old records are replaced.
  """
  path = HERE / "results" / f"{name}.json"
  key = lambda one: tuple(one.get(k) for k in of)
  with alone(path.parent):  # records that another benchmark adds at the same time are kept
    before = records.read(path) if of else []
    new = {key(one) for one in found}
    records.write(path, [one for one in before if key(one) not in new] + found)
    if name in _OWN_FORM:
      _OWN_FORM[name].draw(path)
    build_page()


def build_page():
  """Rebuilds `benchmarks/README.md`."""
  lines = [_INTRODUCTION]
  for path in sorted((HERE / "results").glob("*.json")):
    rows = json.loads(path.read_text())
    lines.append(f"## {path.stem.replace('_', ' ')}\n")
    runs = dict.fromkeys((r["command"], r["machine"]) for r in rows)
    lines += [f"- `{command}`, {machine}" for command, machine in runs]
    lines.append("")
    lines += _OWN_FORM[path.stem].table(rows) if path.stem in _OWN_FORM else _table(rows)
  write_whole(HERE / "README.md", "\n".join(lines).encode())


def _table(rows: list[dict]) -> list[str]:
  columns = {key: name for key, name in _COLUMNS.items() if any(key in r for r in rows)}
  lines = heading("program", *columns.values())
  shown = lambda x: f"{x:g}" if isinstance(x, float) else str(x)
  return [*lines, *(cells(r["measure"], *(shown(r.get(key, "")) for key in columns)) for r in rows), ""]


if __name__ == "__main__":
  build_page()
