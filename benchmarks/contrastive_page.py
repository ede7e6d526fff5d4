"""Table and figure of the records of contrastive losses."""

import json
from pathlib import Path

from benchmarks.figures import points, save, two_rows
from benchmarks.tables import by_measure, cells, heading

_INTRODUCTION = """\
Milliseconds and temporary memory of value and gradient, for rows of 128 values. `sharded` and `ring` shard the rows
over devices, and their memory is per device; for peers it is the peak of the process during a call. All
implementations agree on the loss to 5 digits before they are timed.

![time and memory against the number of rows](results/contrastive_loss.png)
"""


def table(rows: list[dict]) -> list[str]:
  """One table per loss, with a row per implementation and a column per number of rows."""
  lines = [_INTRODUCTION]
  for loss in dict.fromkeys(r["loss"] for r in rows):
    own = [r for r in rows if r["loss"] == loss]
    counts = sorted({r["rows"] for r in own})
    lines += [f"### {loss}\n", *heading("implementation", *(f"{n:,} rows" for n in counts))]
    for name, found in by_measure(own, "rows").items():
      devices = max(r["devices"] for r in found.values())
      label = name if devices == 1 else f"{name}, {devices} devices"
      lines.append(cells(label, *(_cell(found.get(n)) for n in counts)))
    lines.append("")
  return lines


def _cell(r: dict | None) -> str:
  if r is None:
    return ""
  memory = f"{r['temporary_mebibytes']:,.0f} MiB"
  return f"not run, {memory}" if r["value"] is None else f"{r['value']:,.1f} ms, {memory}"


def draw(path: Path):
  """Draws time and memory against the number of rows, one column per loss: NAME.png."""
  rows = json.loads(path.read_text())
  losses = list(dict.fromkeys(r["loss"] for r in rows))
  names = list(dict.fromkeys(r["measure"] for r in rows))
  figure, axes = two_rows(len(losses), width=4, height=6.5)
  for column, loss in zip(axes.T, losses, strict=True):
    for i, name in enumerate(names):
      own = sorted((r for r in rows if (r["loss"], r["measure"]) == (loss, name)), key=lambda r: r["rows"])
      for axis, key in zip(column, ("value", "temporary_mebibytes"), strict=True):
        if found := points(own, "rows", key):
          axis.loglog(*zip(*found, strict=True), color=f"C{i}", marker="o", markersize=3, label=name)
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    column[0].set_title(loss, fontsize=10)
    column[1].set_xlabel("rows")
  axes[0, 0].set_ylabel("milliseconds")
  axes[1, 0].set_ylabel("temporary memory, MiB")
  save(figure, path)
