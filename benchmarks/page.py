"""The benchmarks' page: `benchmarks/README.md`, made from every record in `benchmarks/results/`.

python -m benchmarks.page
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from metajax.experiment import records
from metajax.paths import alone, write_whole, writing

HERE = Path(__file__).resolve().parent
_INTRODUCTION = """# Benchmarks

Made from the records in `results/` by `python -m benchmarks.page`; only a run writes a record (`--record`).
Rates are medians of rounds that alternate between the rows of a table, in one run on one machine.

The peers are PyTorch's libraries. Into an environment with this project:

    pip install -e ".[bench]"
    pip install --no-deps higher==0.2.1
    pip download --no-deps --no-binary :all: learn2learn==0.2.0    # needs Cython, or fetch the archive

learn2learn 0.2.0 no longer builds as a whole. Its MAML serves: copy the folders `learn2learn` and
`learn2learn.egg-info` of the archive into `site-packages`, and empty `learn2learn/__init__.py` and
`learn2learn/algorithms/__init__.py`. Peers that are not there are left out. Those of
`contrastive_loss`, lightly and open_clip, come with the `bench` extra; on a machine without an accelerator where
importing them after JAX ends in a crash, `pip uninstall triton` helps.
"""
_COLUMNS = {  # of a plain table, where a record has them
  "devices": "devices",
  "tasks": "tasks",
  "batch_size": "batch",
  "value": "value",
  "unit": "unit",
  "temporary_mebibytes": "temporary MiB",
  "beside": "in units of",
  "time_in_mamls": "time",
  "memory_in_mamls": "memory",
  "compile_seconds": "compile s",
  "collectives": "collectives",
  "collective_bytes": "their bytes",
}
_FIGURES = {  # of a cell of the meta-gradient's table, and how it is written
  "value": "{:.1f}",
  "to_best_peer": "{:.2f}x",
  "temporary_mebibytes": "{:.0f} MiB",
  "inner_gradients": "{:.1f} G",
  "percent_of_peak": "{:.0f}%",
  "compile_seconds": "{:.0f} s",
}


def write(name: str, found: list[dict], of: tuple[str, ...] = ()):
  """Writes `benchmarks/results/NAME.json` and rebuilds the page.

  Args:
    name: of the benchmark.
    found: its records.
    of: where given, only records that agree with a new one in all of these keys are replaced, the others kept.
  """
  path = HERE / "results" / f"{name}.json"
  key = lambda one: tuple(one.get(k) for k in of)
  with alone(path.parent):  # what another benchmark adds meanwhile is not lost
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
  lines = [_cells("what", *columns.values()), _cells(*["---"] * (len(columns) + 1))]
  shown = lambda x: f"{x:g}" if isinstance(x, float) else str(x)
  return [*lines, *(_cells(r["measure"], *(shown(r.get(key, "")) for key in columns)) for r in rows), ""]


def _meta_gradient(rows: list[dict]) -> list[str]:
  """A table a network, optimizer and device: a row a way, a column a number of steps."""
  lines = [
    "Tasks a second; how many times the best peer of that column; temporary memory; cost in gradients of the inner",
    'loss (G); share of the machine\'s peak in matrix products; time to compile. "Step again" and "sqrt" are',
    '`remat="step"` and `remat="sqrt"`. Exact ways and peers agree on loss and gradient before they are timed.',
    "",
    "![throughput and memory against the number of inner steps](results/meta_gradient.png)",
    "",
  ]
  key = lambda r: (r["network"], r["optimizer"], r["device"], r["size"], r["clock"])
  for network, optimizer, device, size, clock in dict.fromkeys(map(key, rows)):
    own = [r for r in rows if key(r) == (network, optimizer, device, size, clock)]
    steps = sorted({r["inner_steps"] for r in own})
    one = own[0]
    task = f"{one['ways']}-way {one['shots']}-shot, {one['queries']} queries, {one['tasks']} tasks"
    lines.append(f"### {network}-{size}, inner {optimizer}: {task}\n")
    peaks = sorted({r["peak_gigaflops"] for r in own})
    peak = " to ".join(dict.fromkeys((str(peaks[0]), str(peaks[-1]))))
    loads = ", ".join(dict.fromkeys(str(r["load"]) for r in own))
    lines.append(
      f"{device}, {one['machine']}, peak {peak} GFLOP/s, load before the run {loads}; {clock} clock, "
      f"{one['threads']} threads\n"
    )
    lines += [_cells("way", *(f"K = {k}" for k in steps)), _cells(*["---"] * (len(steps) + 1))]
    for name in dict.fromkeys(r["measure"] for r in own):
      found = {r["inner_steps"]: r for r in own if r["measure"] == name}
      lines.append(_cells(name, *(_cell(found.get(k)) for k in steps)))
    lines.append("")
  return lines


def _cell(r: dict | None) -> str:
  if r is None:
    return ""
  if r["value"] is None:
    return f"{r['skipped']}: {r['temporary_mebibytes']:.0f} MiB"
  return ", ".join(form.format(r[key]) for key, form in _FIGURES.items() if r.get(key) is not None)


def _draw(path: Path):
  """Throughput and memory against the number of inner steps, a column a network and optimizer: NAME.png."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import NullLocator, StrMethodFormatter

  rows = json.loads(path.read_text())
  panel_of = lambda r: (r["network"], r["optimizer"], r["clock"])
  panels = list(dict.fromkeys(map(panel_of, rows)))
  figure = Figure(figsize=(3.6 * len(panels) + 1.5, 6), layout="constrained")
  axes = figure.subplots(2, len(panels), squeeze=False, sharex=True)
  names = [name for name in dict.fromkeys(r["measure"] for r in rows) if name != "one inner gradient"]
  for column, panel in enumerate(panels):
    for i, name in enumerate(names):
      own = sorted(
        (r for r in rows if (r["network"], r["optimizer"], r["clock"], r["measure"]) == (*panel, name)), key=_steps
      )
      style = {"color": f"C{i % 10}", "marker": "o", "markersize": 3, "label": name}
      is_peer = not any("temporary_mebibytes" in r for r in own)
      for axis, key in zip(axes[:, column], ("value", "temporary_mebibytes"), strict=True):
        points = [(r["inner_steps"], r[key]) for r in own if r.get(key) is not None]
        if points:
          axis.plot(*zip(*points, strict=True), linestyle="--" if is_peer else "-", **style)
    axes[0, column].set_title(f"{panel[0]}, inner {panel[1]}, {panel[2]} clock", fontsize=10)
    axes[1, column].set_xlabel("inner steps K")
    for axis in axes[:, column]:
      axis.set_xscale("log")
      axis.set_yscale("log")
      ticks = sorted({r["inner_steps"] for r in rows})
      axis.set_xticks(ticks, labels=map(str, ticks))
      axis.xaxis.set_minor_locator(NullLocator())
      for of in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        of(StrMethodFormatter("{x:g}"))
      axis.tick_params(labelsize=7, which="both")
      axis.grid(alpha=0.3)
  axes[0, 0].set_ylabel("tasks a second")
  axes[1, 0].set_ylabel("temporary memory, MiB")
  handles = {label: h for a in axes.flat for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
  figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
  with writing(path.with_suffix(".png")) as file:
    figure.savefig(file, dpi=110)


def _steps(r: dict) -> int:
  return r["inner_steps"]


def _contrastive(rows: list[dict]) -> list[str]:
  """A table a loss: a row a way, a column a number of rows."""
  lines = [
    "Milliseconds and temporary memory of value and gradient, rows of 128 values. `sharded` and `ring` share the rows",
    "among devices, and their memory is that of one; the peers' is how far a call takes the process's memory. All",
    "agree on the loss to 5 digits before they are timed.",
    "",
    "![time and memory against the number of rows](results/contrastive_loss.png)",
    "",
  ]
  for loss in dict.fromkeys(r["loss"] for r in rows):
    own = [r for r in rows if r["loss"] == loss]
    counts = sorted({r["rows"] for r in own})
    lines += [f"### {loss}\n", _cells("way", *(f"{n:,} rows" for n in counts)), _cells(*["---"] * (len(counts) + 1))]
    for name in dict.fromkeys(r["measure"] for r in own):
      found = {r["rows"]: r for r in own if r["measure"] == name}
      devices = max(r["devices"] for r in found.values())
      label = name if devices == 1 else f"{name}, {devices} devices"
      lines.append(_cells(label, *(_contrastive_cell(found.get(n)) for n in counts)))
    lines.append("")
  return lines


def _contrastive_cell(r: dict | None) -> str:
  if r is None:
    return ""
  memory = f"{r['temporary_mebibytes']:,.0f} MiB"
  return f"not run, {memory}" if r["value"] is None else f"{r['value']:,.1f} ms, {memory}"


def _draw_contrastive(path: Path):
  """Time and memory against the number of rows, a column a loss: NAME.png."""
  from matplotlib.figure import Figure

  rows = json.loads(path.read_text())
  losses = list(dict.fromkeys(r["loss"] for r in rows))
  names = list(dict.fromkeys(r["measure"] for r in rows))
  figure = Figure(figsize=(4 * len(losses) + 1.5, 6.5), layout="constrained")
  axes = figure.subplots(2, len(losses), squeeze=False, sharex=True)
  for column, loss in zip(axes.T, losses, strict=True):
    for i, name in enumerate(names):
      own = sorted((r for r in rows if (r["loss"], r["measure"]) == (loss, name)), key=lambda r: r["rows"])
      for axis, key in zip(column, ("value", "temporary_mebibytes"), strict=True):
        points = [(r["rows"], r[key]) for r in own if r[key]]
        if points:
          axis.loglog(*zip(*points, strict=True), color=f"C{i}", marker="o", markersize=3, label=name)
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    column[0].set_title(loss, fontsize=10)
    column[1].set_xlabel("rows")
  axes[0, 0].set_ylabel("milliseconds")
  axes[1, 0].set_ylabel("temporary memory, MiB")
  handles = {label: h for a in axes.flat for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
  figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
  with writing(path.with_suffix(".png")) as file:
    figure.savefig(file, dpi=110)


class _Form(NamedTuple):
  """How a benchmark's records are shown."""

  table: Callable
  draw: Callable


def _pods(rows: list[dict]) -> list[str]:
  """A table a learner: a row a slice."""
  lines = [
    "A training step compiled by XLA's compiler for TPUs for slices of v5e that are not here: arithmetic in matrix",
    "products, memory and collectives are the program's; times are projected, not measured: a chip computes at 40% of",
    "its 197 TFLOP/s, and sends what a ring takes at 200 GB/s, one after the other. A chip has 16,384 MiB; its batch",
    "is the same on any number of chips.",
    "",
  ]
  for learner in dict.fromkeys(r["measure"] for r in rows):
    names = ("chips", "batch", "GFLOP a chip", "MB sent a chip", "computing ms", "sending ms", "step ms, projected")
    names += ("params, optimizer and batch MiB a chip", "temporary MiB a chip")
    lines += [f"### {learner}\n", _cells("parameters", *names), _cells(*["---"] * (len(names) + 1))]
    for r in (r for r in rows if r["measure"] == learner):
      shown = (r["devices"], f"{r['batch_size']:,}", f"{r['gigaflops']:,}", f"{r['collective_bytes'] / 1e6:,.2f}")
      shown += (r["computing_ms"], r["sending_ms"], r["value"], f"{r['state_mebibytes']:,}")
      shown += (f"{r['temporary_mebibytes']:,}" + " (too many)" * (not r["fits"]),)
      lines.append(_cells("sharded" if r["fsdp"] else "copies", *map(str, shown)))
    lines.append("")
  return lines


_OWN_FORM = {
  "pods": _Form(_pods, lambda path: None),
  "meta_gradient": _Form(_meta_gradient, _draw),
  "contrastive_loss": _Form(_contrastive, _draw_contrastive),
}


def _cells(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  build_page()
