"""The two figures of the project's README: speed beside other libraries, and memory against the inner steps."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metajax.paths import writing

if TYPE_CHECKING:
  from matplotlib.axes import Axes

STEPS = 10  # inner steps of the figure of speed
SPEED = ("mixed", "torch.func vmapped", "learn2learn", "TorchOpt", "higher")
MEMORY = {"reverse": "reverse mode", "mixed": "metajax", "first order": "first order"}
OWN, OTHERS = "#0072b2", "#9aa3ad"


def draw(rows: Sequence[dict], folder: Path):
  """Draws `speed.png` and `memory.png` from the records of meta-gradients, each where its records exist."""
  own = [row for row in rows if row["clock"] == "wall" and row["optimizer"] == "sgd" and row["device"] == "cpu"]
  speed = [r for r in own if r["network"] == "conv4" and r["inner_steps"] == STEPS and r.get("value")]
  if any(r["measure"] == "mixed" for r in speed):
    _figure(folder / "speed.png", _speed, speed)
  memory = [r for r in own if r["network"] == "transformer"]
  if all(any(r["measure"] == name for r in memory) for name in MEMORY):
    _figure(folder / "memory.png", _memory, memory)


def _figure(path: Path, panel, rows: list[dict]):
  from matplotlib.figure import Figure

  figure = Figure(figsize=(4.6, 2.6), layout="constrained")
  panel(figure.subplots(), rows)
  with writing(path) as file:
    figure.savefig(file, dpi=160)


def _speed(axes: "Axes", rows: list[dict]):
  value = {row["measure"]: row["value"] for row in rows}
  names = [name for name in SPEED if value.get(name)]
  bars = axes.barh(names, [value[name] for name in names], color=[OWN, *[OTHERS] * (len(names) - 1)])
  axes.bar_label(bars, fmt="%.1f", padding=3)
  axes.set_yticks(range(len(names)), ["metajax", *names[1:]])
  axes.invert_yaxis()
  axes.spines[["top", "right"]].set_visible(False)
  axes.set_xlabel(f"meta-gradients of tasks per second,\nconv4-64, {STEPS} inner SGD steps")
  axes.margins(x=0.12)


def _memory(axes: "Axes", rows: list[dict]):
  for name, label in MEMORY.items():
    points = sorted((r["inner_steps"], r["temporary_mebibytes"]) for r in rows if r["measure"] == name)
    (line,) = axes.plot(*zip(*points, strict=True), "o-", color=OWN if name == "mixed" else OTHERS)
    axes.annotate(label, points[-1], (6, 0), textcoords="offset points", va="center", color=line.get_color())
  axes.spines[["top", "right"]].set_visible(False)
  axes.set_xlabel("inner SGD steps, transformer")
  axes.set_ylabel("temporary memory, MiB")
  axes.set_ylim(0)
  axes.set_xlim(0, 1.4 * max(r["inner_steps"] for r in rows))


def main():
  """Draws both figures from the records."""
  folder = Path(__file__).resolve().parent / "results"
  draw(json.loads((folder / "meta_gradient.json").read_text()), folder)


if __name__ == "__main__":
  main()
