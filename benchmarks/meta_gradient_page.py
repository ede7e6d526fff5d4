"""Tables and figure of the records of meta-gradients."""

import json
from pathlib import Path

from benchmarks import front_page
from benchmarks.figures import points, save, two_rows
from benchmarks.tables import by_measure, cells, heading

_INTRODUCTION = """\
Tasks per second; speed relative to the best peer of the column; temporary memory; cost in gradients of the inner
loss (G); fraction of the machine's peak rate of matrix products; compile time. "Step again" and "sqrt" are
`remat="step"` and `remat="sqrt"`. Exact modes and peers agree on loss and gradient before they are timed.

![throughput and memory against the number of inner steps](results/meta_gradient.png)
"""
_FIGURES = {  # {key of a record: format in a cell}
  "value": "{:.3g}",
  "to_best_peer": "{:.2f}x",
  "temporary_mebibytes": "{:.0f} MiB",
  "inner_gradients": "{:.1f} G",
  "percent_of_peak": "{:.0f}%",
  "compile_seconds": "{:.0f} s",
}


def table(rows: list[dict]) -> list[str]:
  """One table per network, optimizer, device and number of tasks: a row per mode, a column per number of steps."""
  lines = [_INTRODUCTION]
  key = lambda r: (*(r[name] for name in ("network", "optimizer", "device", "size", "clock", "tasks")), devices_of(r))
  for group in dict.fromkeys(map(key, rows)):
    own = [r for r in rows if key(r) == group]
    network, optimizer, device, size, clock, _, devices = group
    steps = sorted({r["inner_steps"] for r in own})
    one = own[0]
    task = f"{one['ways']}-way {one['shots']}-shot, {one['queries']} queries, {one['tasks']} tasks"
    lines.append(f"### {network}-{size}, inner {optimizer}: {task}\n")
    peaks = sorted({r["peak_gigaflops"] for r in own})
    peak = " to ".join(dict.fromkeys((str(peaks[0]), str(peaks[-1]))))
    loads = ", ".join(dict.fromkeys(str(r["load"]) for r in own))
    lines.append(
      f"{device}, {one['machine']}, peak {peak} GFLOP/s, load before the run {loads}; {clock} clock, "
      f"{one['threads']} threads, {devices} XLA {'device' if devices == 1 else 'devices'}\n"
    )
    lines += heading("mode", *(f"K = {k}" for k in steps))
    lines += [cells(name, *(_cell(f.get(k)) for k in steps)) for name, f in by_measure(own, "inner_steps").items()]
    lines.append("")
  return lines


def devices_of(r: dict) -> int:
  """XLA devices of a record; the first ones were made on one."""
  return r.get("devices", 1)


def _cell(r: dict | None) -> str:
  if r is None:
    return ""
  if r["value"] is None:
    return f"{r['skipped']}: {r['temporary_mebibytes']:.0f} MiB"
  return ", ".join(form.format(r[key]) for key, form in _FIGURES.items() if r.get(key) is not None)


def draw(path: Path):
  """Draws throughput and memory against the number of inner steps, one column per network and optimizer: NAME.png."""
  from matplotlib.ticker import NullLocator, StrMethodFormatter

  rows = json.loads(path.read_text())
  panel_of = lambda r: (r["network"], r["optimizer"], r["clock"], r["tasks"], devices_of(r))
  panels = list(dict.fromkeys(map(panel_of, rows)))
  figure, axes = two_rows(len(panels), width=3.6, height=6)
  names = [name for name in dict.fromkeys(r["measure"] for r in rows) if name != "one inner gradient"]
  for column, panel in enumerate(panels):
    for i, name in enumerate(names):
      own = [r for r in rows if (*panel_of(r), r["measure"]) == (*panel, name)]
      own.sort(key=lambda r: r["inner_steps"])
      style = {"color": f"C{i % 10}", "marker": "o", "markersize": 3, "label": name}
      is_peer = not any("temporary_mebibytes" in r for r in own)
      for axis, key in zip(axes[:, column], ("value", "temporary_mebibytes"), strict=True):
        if found := points(own, "inner_steps", key):
          axis.plot(*zip(*found, strict=True), linestyle="--" if is_peer else "-", **style)
    axes[0, column].set_title(
      f"{panel[0]}, inner {panel[1]}, {panel[2]} clock, tasks: {panel[3]}, devices: {panel[4]}", fontsize=8
    )
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
  axes[0, 0].set_ylabel("tasks per second")
  axes[1, 0].set_ylabel("temporary memory, MiB")
  save(figure, path)
  front_page.draw(rows, path.parent)
