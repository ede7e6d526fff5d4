"""The driver of all experiments: it trains, evaluates, and writes the results."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.checkpoint import Checkpoints
from metajax.compiled import flops, shapes, with_rows
from metajax.experiment import command_line, headlines, records, run_folder
from metajax.experiment.artifacts import check_artifacts, write_artifacts
from metajax.experiment.compile_for import compile_for
from metajax.experiment.configuration import configuration
from metajax.experiment.devices import axes_of, devices_of, on_devices
from metajax.experiment.exports import export_run, gather
from metajax.experiment.finished_page import write_page
from metajax.experiment.groups import group_of
from metajax.experiment.run_folder import Run
from metajax.experiment.seeds import check_seeds, groups, seeds_of, side_by_side
from metajax.experiment.training import advised_in_tests, averaging, check_parts, parts_of_a_batch, recorded
from metajax.experiment.types import Experiment, RunFlags, Trained, Training
from metajax.mesh import host_batches, process_shard, replicate, shard_batch
from metajax.pixels import images_to_float
from metajax.report import read_metrics
from metajax.train import averaged, each_seed, fit, make_train_step, restore, seeds_in_parallel
from metajax.types import Batches, Episode

Build = Callable[[Any], Experiment | Sequence[Experiment]]  # config -> Experiment


class _Part(NamedTuple):
  """One experiment of a run: its subfolder, the batches of each seed, the first batch, the shapes of params and state,
  and the number of seeds to train in parallel."""

  folder: str
  experiment: Experiment
  batches: list[Batches]
  example: Any
  shapes: tuple
  in_parallel: int = 1


class _Begun(NamedTuple):
  """A run with consistent flags and data: its name and folder, its parts, the rows per step, the number of devices."""

  name: str
  run: Run
  parts: list[_Part]
  rows: int
  devices: int


class _Group(NamedTuple):
  """Seeds that train in parallel: their subfolder, their number, their batches, and further arguments of `fit`."""

  folder: str
  seeds: int
  batches: Batches
  fit_arguments: dict[str, Any]


def main(build: Build, presets: Mapping[str, Any] | None = None):
  """Turns an experiment into a command, with the flags of its config, presets by `--preset`, and one-line errors.

  Args:
    build: `config -> Experiment`, annotated with the type of the config.
    presets: `{name: config}`; the first one is the default of `--preset`, unless the machine is small and there is one
      named "cpu".

  Example:
    `if __name__ == "__main__": main(build, PRESETS)`
  """
  with command_line.session(build, presets) as config:
    run(build, config)


def run(build: Build, config: Any) -> Path:
  """Runs an experiment: trains, evaluates, and writes checkpoints, metrics, records and a page into its folder.

  Args:
    build: `config -> Experiment`, or `config -> experiments` that train one after the other, each in a subfolder of its
      name.
    config: NamedTuple that contains a `Training` and a `RunFlags`, at any depth.

  Returns:
    The run's folder; with `--compile-for` that of a page, and nothing is trained.

  Raises:
    ValueError: if the flags are inconsistent or do not fit the data, before anything is written.
    OSError: if the folder cannot be written, or data cannot be read.
  """
  training, flags, trained = group_of(config, Training), group_of(config, RunFlags), []
  if flags.compile_for:
    return compile_for(build, config)
  begun = _begun(build, config)
  steps = training.steps
  with on_devices(begun.devices, **axes_of(flags.mesh, flags.fsdp, begun.devices)):
    run, parts = _written(begun, config)
    for part in parts:
      one, ended = part.experiment, []
      for group in _groups(part, training):
        rows, operations = begun.rows * group.seeds, functools.partial(_operations, part, begun.rows, group, training)
        unit = "tasks" if isinstance(part.example, Episode) else "examples"
        with recorded(run, group.folder, group.batches, steps, rows=rows, unit=unit, flops=operations) as kept:
          state = fit(one.learner, one.optimizer, kept.batches, steps, **group.fit_arguments, **kept.fit_arguments)
        ended.append((group, state, kept.took()))
      trained.append(_trained(run, part, ended, begun.devices, training))
    with advised_in_tests(run), _devices_of_tests(begun.devices, training) as to_test:
      tested = [one._replace(states=to_test(one.states)) for one in trained]
      found = [evaluate(one) for part, one in zip(parts, tested, strict=True) for evaluate in part.experiment.evaluate]
      measured = [records.flat(record) for some in found for record in some]
      records.write(run.folder / "records.json", measured)
      warnings = headlines.warn(run.folder, measured)
      image = write_page(run, [part.experiment for part in parts], tested, measured, warnings)
      gathered = [gather(one) for one in tested] if flags.export else []  # by all hosts, as one host alone exports
  if flags.export:
    _export(run, parts, gathered, measured)
  print(f"page of the run: {run.folder / 'index.html'}")
  if flags.record:
    records.publish(records.home(build), begun.name, measured, image)
  return run.folder


def _operations(part: _Part, rows: int, group: _Group, training: Training) -> int:
  """Operations of a training step in matrix products, counted as products in bfloat16."""
  one = part.experiment
  step = make_train_step(one.learner, one.optimizer, parts_of_a_batch(one, training))
  before = shapes(one.learner, one.optimizer, part.example)
  return group.seeds * flops(step, before, with_rows(part.example, rows), in_bfloat16=True)


@contextlib.contextmanager
def _devices_of_tests(devices: int, training: Training) -> Generator[Callable]:
  """All devices for the tests of a run whose batches of one row keep training on one; yields what moves its states."""
  if devices > 1 or training.devices is not None:
    yield lambda states: states
    return
  with on_devices(None):
    yield replicate


def _export(run: Run, parts: Sequence[_Part], trained: Sequence[Trained], measured: list[dict]):
  """Exports each trained learner. One that cannot be exported costs the run nothing but a line."""
  for part, one in zip(parts, trained, strict=True):
    try:
      folder = export_run(run.folder / part.folder, part.experiment, one, part.example, measured)
      if folder:
        print(f"export for `metajax predict`: {folder}")
    except (ValueError, OSError) as error:
      print(f"not exported: {error}")


def _begun(build: Build, config: Any) -> _Begun:
  """Builds and checks the run of a config, without writing anything."""
  check_seeds(group_of(config, Training))
  run_folder.check(group_of(config, RunFlags))
  built = build(config)
  name = built.name if isinstance(built, Experiment) else command_line.module_of(build).rpartition(".")[2]
  run = run_folder.begin(name, build, config)
  ema = group_of(config, Training).ema
  named = {"": built} if isinstance(built, Experiment) else {one.name: one for one in built}
  named = {name: one._replace(optimizer=averaging(one.optimizer, ema)) for name, one in named.items()}
  parts = _prepared(named, config)
  for part in parts:
    _check_checkpoints(run, part, config)
  run_folder.check_same(run, config)
  for part in parts:
    check_artifacts(run, part.experiment.artifacts)
  rows = jax.tree.leaves(parts[0].example)[0].shape[0] * process_shard()[1]
  for part in parts:
    check_parts(parts_of_a_batch(part.experiment, group_of(config, Training)), rows)
  devices = devices_of(group_of(config, RunFlags).mesh, rows, group_of(config, Training).devices)
  return _Begun(name, run, parts, rows, devices)


def _written(begun: _Begun, config: Any) -> tuple[Run, list[_Part]]:
  """Writes the configuration and the artifacts; returns the run, and its parts with the number of parallel seeds."""
  for part in begun.parts:
    shard_batch(part.example)  # raises before anything is written if the devices do not divide the batch
  parts = [part._replace(in_parallel=_in_parallel(begun.run, part, config)) for part in begun.parts]
  said = {"seeds_at_once": parts[0].in_parallel} | {k: v for part in parts for k, v in part.experiment.said.items()}
  run = run_folder.write_configuration(begun.run, begun.devices, **said)
  for part in parts:
    write_artifacts(run, part.experiment.artifacts)
  return run, parts


def _prepared(experiments: Mapping[str, Experiment], config: Any) -> list[_Part]:
  """Prepares each experiment with its batches, and checks their shapes without compiling."""
  parts = []
  for folder, one in experiments.items():
    batches = [one.train_batches(seed) for seed in seeds_of(group_of(config, Training))]
    example = next(iter(host_batches(batches[0])))
    # `init` receives the batch itself, as a learner may inspect its values.
    seen = images_to_float(example)
    shapes = jax.eval_shape(lambda key, one=one, batch=seen: one.learner.init(key, batch), jax.random.key(0))
    if one.check is not None:
      one.check(shapes, seen)
    parts.append(_Part(folder, one, batches, example, shapes))
  return parts


def _check_checkpoints(run: Run, part: _Part, config: Any):
  """Refuses to resume from checkpoints of another learner."""
  if not run.resumed:
    return
  params, state = part.shapes
  flags = group_of(config, Training)
  for folder in groups(flags, flags.seeds_in_parallel or 1):
    Checkpoints(run.folder / part.folder / folder / "checkpoints").check({"params": params, "state": state})


def _in_parallel(run: Run, part: _Part, config: Any) -> int:
  """Number of seeds to train in parallel: as before the resume, as requested, or as many as fit into memory."""
  flags, one = group_of(config, Training), part.experiment
  if flags.seeds == 1:
    return 1
  before = configuration(run.folder).get("seeds_at_once") if run.resumed else None
  asked = before or flags.seeds_in_parallel
  in_parallel = asked or seeds_in_parallel(one.learner, one.optimizer, part.batches, list(seeds_of(flags)))
  print(f"{flags.seeds} seeds, {in_parallel} in parallel")
  return in_parallel


def _groups(part: _Part, training: Training) -> Iterator[_Group]:
  """Yields the trainings of an experiment in order, each of one seed or of several in parallel."""
  if part.folder:
    print(f"{part.experiment.title or part.experiment.name}")
  validate = part.experiment.validate
  validated: dict[str, Any] = {"validate": validate, "eval_every": training.eval_every} if validate else {}
  for folder, seeds in groups(training, part.in_parallel).items():
    batches, seed = side_by_side([part.batches[seed - training.seed] for seed in seeds], seeds)
    how = {"seed": seed, "accumulate": parts_of_a_batch(part.experiment, training), **validated}
    yield _Group(f"{part.folder}/{folder}".strip("/"), len(seeds), batches, how)


def _trained(run: Run, part: _Part, ended: Sequence[tuple], devices: int, training: Training) -> Trained:
  """Collects the trained states of an experiment, and prints the time and the selected steps."""
  one, states, waiting = part.experiment, [], []
  for group, found, _ in ended:
    if one.validate and one.keep == "last":
      with Checkpoints(run.folder / group.folder / "checkpoints") as checkpoints:
        found = restore(
          one.learner, one.optimizer, group.batches, checkpoints, seed=group.fit_arguments["seed"], best=False
        )
    states += map(averaged, each_seed(found, group.fit_arguments["seed"]))
    rows = read_metrics(run.folder / group.folder)
    waiting += [row["data_wait_fraction"] for row in rows if "data_wait_fraction" in row]
  seconds, share_waiting = sum(took for _, _, took in ended), float(np.mean(waiting or [0.0]))
  chosen = f"; validation selected step {' '.join(str(int(state.step)) for state in states)} of {training.steps}"
  print(
    f"\ntrained for {seconds:.0f} s on {devices} device(s), {100 * share_waiting:.1f}% of the time waiting for data"
    + chosen * (one.keep == "best")
  )
  learner = one.learner if one.choose is None else one.choose(states)
  return Trained(states, learner, seconds, training.steps, devices, training.seed, share_waiting, part.batches)
