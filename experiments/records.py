"""Records: what a run measured, as flat dictionaries, and the results page that is made from all of them.

python -m experiments.records     # rebuilds experiments/README.md from experiments/results/*.json
"""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

from experiments.command_line import command

HERE = Path(__file__).resolve().parent
_SETTING = ("data", "split", "measure", "ways", "shots", "queries", "policy", "tasks")


def record(**measured) -> dict:
  """A flat record: what was measured, with the command, the machine and the versions that measured it."""
  versions = {name: version(name) for name in ("metajax", "jax", "flax", "optax", "numpy")}
  return {**measured, "command": command(), "machine": machine(), "versions": versions}


def machine() -> str:
  """The accelerator's name and number, or how many CPU cores there are and of which architecture."""
  device = jax.devices()[0]
  if device.platform == "cpu":
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
  return f"{jax.device_count()} x {device.device_kind}"


def write(path: Path, records: list[dict]):
  """Writes records as JSON, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  scratch = path.with_suffix(".tmp")
  scratch.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
  scratch.replace(path)


def publish(name: str, records: list[dict]):
  """Writes `experiments/results/NAME.json` and rebuilds the results page."""
  write(HERE / "results" / f"{name}.json", records)
  build_page()


def build_page():
  """Rebuilds `experiments/README.md` from every record in `experiments/results/`."""
  records = [r for path in sorted((HERE / "results").glob("*.json")) for r in json.loads(path.read_text())]
  settings = sorted({tuple(r[key] for key in _SETTING if key != "policy") for r in records}, key=str)
  lines = [_INTRODUCTION]
  for setting in settings:
    rows = [r for r in records if tuple(r[key] for key in _SETTING if key != "policy") == setting]
    lines += [f"## {_title(rows[0])}\n", _HEAD, *map(_row, sorted(rows, key=lambda r: -r["value"])), ""]
  (HERE / "README.md").write_text("\n".join(lines))


_INTRODUCTION = """# Results

Made from the records in `results/` by `python -m experiments.records`; only a run writes a record (`--record`).
Accuracies are in percent, with the half-width of the 95% interval over test tasks. *Transductive* means that batch
norm sees the other queries of the task, which is worth some points; *running statistics* means that it does not. The
published figures rest on the papers' own splits, networks and budgets.
"""
_HEAD = """| learner | ours | published | policy | trained for | seed | machine | command |
|---|---|---|---|---|---|---|---|"""


def _title(r: dict) -> str:
  if r["ways"] is None:
    return f"{r['data']}: {r['measure'].replace('_', ' ')}, {r['shots']} shots, {r['tasks']} tasks"
  setting = f"{r['ways']}-way {r['shots']}-shot, {r['queries']} queries a class, {r['tasks']} tasks"
  return f"{r['data']}, {r['split']}: {r['measure']}, {setting}"


def _row(r: dict) -> str:
  published = "" if r["published"] is None else f"{r['published']:g}"
  trained = f"{r['train_seconds'] / 60:.1f} min, {r['steps']} steps" if r["steps"] else "not trained"
  ours = f"**{r['value']:.4g}** ± {r['interval']:.2g}"
  cells = (r["learner"], ours, published, r["policy"], trained, r["seed"], r["machine"], f"`{r['command']}`")
  return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
  build_page()
