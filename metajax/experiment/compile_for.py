"""`--compile-for`: what the training step of a command takes on slices of TPUs, without the TPUs."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from metajax import paths
from metajax.compiled import Projection, Slices, project, slices_of
from metajax.experiment import command_line, records
from metajax.experiment.devices import axes_of
from metajax.experiment.groups import group_of
from metajax.experiment.precision import set_precision
from metajax.experiment.training import averaging, parts_of_a_batch
from metajax.experiment.types import Experiment, RunFlags, Training
from metajax.mesh import host_batches, mesh_over
from metajax.report import page

MIB = 2**20
ESTIMATE = (
  "Bytes and operations are those of the compiled program. Times are estimates: computing takes the cycles that the "
  "compiler expects, and at least the operations at the chip's peak; sending takes the bytes of ring collectives at "
  "the peak of the links; nothing overlaps."
)


def compile_for(build: Callable[[Any], Experiment | Sequence[Experiment]], config: Any) -> Path:
  """Compiles the training step of a command for the slices of its flag `--compile-for`; prints a table, writes a page.

  Args:
    build, config: As for `metajax.experiment.driver.run`.

  Returns:
    The folder of the page.

  Raises:
    ValueError: if there are no such slices, libtpu is missing, or the devices do not divide the batch.
  """
  flags, training = group_of(config, RunFlags), group_of(config, Training)
  slices = slices_of(flags.compile_for)
  axes = axes_of(flags.mesh, flags.fsdp, len(slices.devices))
  mesh = mesh_over(slices.devices, **axes)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # what depends on the platform is chosen for the slices
    set_precision(flags.precision)
    built = build(config)
    experiments = [built] if isinstance(built, Experiment) else list(built)
  found = []
  for one in experiments:
    batch = next(iter(host_batches(one.train_batches(training.seed))))
    parts = parts_of_a_batch(one, training)
    projection = project(one.learner, averaging(one.optimizer, training.ema), batch, slices, mesh, parts)
    show(one.title or one.name, projection)
    found.append(projection)
  folder = _folder(experiments[0].name if len(experiments) == 1 else command_line.module_of(build), flags, slices)
  _write(folder, experiments, found, slices)
  print(f"page: {folder / 'index.html'}")
  return folder


def entries(found: Projection) -> dict[str, Any]:
  """The JSON entries of a projection; sizes and operations are those of each device."""
  return {
    "topology": found.slices.name,
    "devices": len(found.slices.devices),
    "batch_size": found.rows,
    "fits": found.fits,
    "largest_batch": found.largest,
    "params_mebibytes": round(found.parameters / MIB, 2),
    "optimizer_mebibytes": round(found.optimizer_state / MIB, 2),
    "batch_mebibytes": round(found.batch / MIB, 2),
    "temporary_mebibytes": None if found.temporary is None else round(found.temporary / MIB, 1),
    "needed_mebibytes": round(found.needed / MIB, 1),
    "memory_mebibytes": round(found.memory / MIB, 1),
    "gigaflops": round(found.operations / 1e9, 1),
    "cycles": found.cycles,
    "collective_bytes": sum(found.sent.values()),
    "bytes_of": {" along ".join(filter(None, key)): size for key, size in found.sent.items()},
    "computing_ms": round(1e3 * found.computing, 3),
    "sending_ms": round(1e3 * found.sending, 3),
    "step_ms": round(1e3 * found.step, 3),
    "rows_per_second": round(found.rows / found.step, 1),
    "peak_percent": round(100 * found.utilization, 1),
    "unknown_loops": found.unknown_loops,
    "compile_seconds": round(found.compile_seconds, 1),
  }


def lines(found: Projection) -> list[tuple[str, str]]:
  """What a projection says, `(name, value)`, as it is printed."""
  chip, shown = found.slices.chip, entries(found)
  memory = f"{shown['needed_mebibytes']:,} of {shown['memory_mebibytes']:,} MiB"
  said = [
    ("devices", f"{shown['devices']} ({found.slices.name})"),
    ("batch", f"{found.rows:,} in all, {found.rows // shown['devices']:,} a device"),
    ("params", f"{shown['params_mebibytes']:,} MiB a device"),
    ("optimizer state", f"{shown['optimizer_mebibytes']:,} MiB"),
    ("batch", f"{shown['batch_mebibytes']:,} MiB"),
  ]
  if not found.fits:
    largest = "no batch was found to fit" if found.largest is None else f"a batch of {found.largest:,} fits"
    return [*said, ("memory", f"does not fit: {memory}; {largest}"), ("compiled in", f"{found.compile_seconds:.1f} s")]
  sent = ", ".join(f"{name} {size / 1e6:,.2f} MB" for name, size in shown["bytes_of"].items()) or "nothing"
  return [
    *said,
    ("temporary", f"{shown['temporary_mebibytes']:,} MiB"),
    ("memory", f"fits: {memory}"),
    ("operations", f"{shown['gigaflops']:,} GFLOP in matrix products, counted in bfloat16"),
    ("compiler's cycles", f"{found.cycles:,} at {chip.clock / 1e9:.2f} GHz"),
    ("sends", sent),
    ("step", f"{shown['step_ms']:,} ms: {shown['computing_ms']:,} computing, {shown['sending_ms']:,} sending"),
    (
      "rate",
      f"{shown['rows_per_second']:,} rows/s, {shown['peak_percent']}% of the peak of {chip.flops / 1e12:g} TFLOP/s",
    ),
    *[("loops of unknown length", f"{found.unknown_loops}, counted once")] * bool(found.unknown_loops),
    ("compiled in", f"{found.compile_seconds:.1f} s"),
  ]


def show(title: str, found: Projection):
  """Prints a table of a projection."""
  table = Table(title=title, show_header=False, title_justify="left")
  for name, value in lines(found):
    table.add_row(name, value)
  Console().print(table)


def _folder(name: str, flags: RunFlags, slices: Slices) -> Path:
  """The folder of the page: `--folder`, or a new one in `--output`."""
  where = slices.name.replace(":", "-").replace(" slices=", "-slices-")
  new = flags.output / f"{name.rpartition('.')[2]}-{where}-{time.strftime('%Y%m%d-%H%M%S')}"
  return paths.place("--folder", flags.folder or new)


def _write(folder: Path, experiments: Sequence[Experiment], found: Sequence[Projection], slices: Slices):
  """Writes the projections as JSON and as a page."""
  described = [{"learner": one.name, **entries(some)} for one, some in zip(experiments, found, strict=True)]
  records.write(folder / "projection.json", described)
  summary = [
    ("memory", f"{some.needed / some.memory:.0%}", "of a device" if some.fits else "does not fit") for some in found
  ]
  summary += [("step", f"{1e3 * some.step:,.1f}", "ms, estimated") for some in found if some.fits]
  page(
    folder / "index.html",
    title=f"{', '.join(one.title or one.name for one in experiments)} on {slices.name}",
    summary=summary,
    configuration={"command": command_line.typed(), "versions": records.versions()},
    records=described,
    figures=[],
    notes=[ESTIMATE],
  )
