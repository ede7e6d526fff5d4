"""The one driver: whatever an experiment is, this trains it, measures it, and writes what was found."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.checkpoint import Checkpoints
from metajax.experiment import command_line, headlines, records, run_folder, training
from metajax.experiment.artifacts import check_artifacts, write_artifacts
from metajax.experiment.configuration import configuration
from metajax.experiment.devices import on_devices
from metajax.experiment.finished_page import write_page
from metajax.experiment.groups import group_of
from metajax.experiment.run_folder import Run
from metajax.experiment.seeds import check_seeds, groups, seeds_of, side_by_side
from metajax.experiment.types import Experiment, RunFlags, Trained, Training
from metajax.mesh import devices_for, own_share, shard_batch, share
from metajax.report import read_metrics
from metajax.train import each_seed, restore, seeds_at_once
from metajax.types import Batches

Build = Callable[[Any], Experiment | Sequence[Experiment]]  # of a config


class _Part(NamedTuple):
  """One of the experiments of a run: its folder within the run's, the batches of each seed, the first
  of them, and the shapes of params and state."""

  folder: str
  experiment: Experiment
  batches: list[Batches]
  example: Any
  shapes: tuple
  at_once: int = 1


def main(build: Build, presets: Mapping[str, Any] | None = None):
  """Makes a command of an experiment: every flag of its config, presets by `--budget`, one clear line for bad input.

  Args:
    build: `config -> Experiment`, with its config's type as annotation.
    presets: `{name: config}`; the first is the one without `--budget`.

  Example:
    `if __name__ == "__main__": main(build, PRESETS)`
  """
  command_line.command(as_command(build), presets)


def as_command(build: Build) -> Callable[[Any], Path]:
  """The function of a config that runs an experiment."""

  @functools.wraps(build)
  def experiment(config):
    return run(build, config)

  return experiment


def run(build: Build, config: Any) -> Path:
  """Runs an experiment: trains, evaluates, and writes checkpoints, metrics, records and a page into its folder.

  Args:
    build: `config -> Experiment`; or several, which train one after the other, each in a folder of its name.
    config: a NamedTuple with a `Training` and a `RunFlags`, or with groups that have them.

  Returns:
    The run's folder.

  Raises:
    ValueError: if flags do not fit each other or the data, before anything is written.
    OSError: if the folder cannot be written, or data cannot be read.
  """
  check_seeds(group_of(config, Training))
  run_folder.check(asked := group_of(config, RunFlags))
  built = build(config)
  name = built.name if isinstance(built, Experiment) else command_line.module_of(build).rpartition(".")[2]
  this = run_folder.begin(name, build, config)
  parts = _prepared({"": built} if isinstance(built, Experiment) else {one.name: one for one in built}, config)
  for part in parts:
    _check_checkpoints(this, part, config)
  run_folder.check_same(this)
  for part in parts:
    check_artifacts(this, part.experiment.artifacts)
  rows = jax.tree.leaves(parts[0].example)[0].shape[0] * share()[1]
  devices = devices_for(rows, group_of(config, Training).devices)
  with on_devices(devices, fsdp=asked.fsdp):
    for part in parts:
      shard_batch(part.example)  # refuses what the devices do not divide, before anything is written
    parts = [part._replace(at_once=_at_once(this, part, config)) for part in parts]
    said = {"seeds_at_once": parts[0].at_once} | {k: v for part in parts for k, v in part.experiment.said.items()}
    this = run_folder.write_configuration(this, devices, **said)
    for part in parts:
      write_artifacts(this, part.experiment.artifacts)
    trained = [_train(this, part, rows, devices, config) for part in parts]
    found = [evaluate(one) for part, one in zip(parts, trained, strict=True) for evaluate in part.experiment.evaluate]
    measured = [records.flat(record) for some in found for record in some]
    records.write(this.folder / "records.json", measured)
    warnings = headlines.warn(this.folder, measured)
    picture = write_page(this, [part.experiment for part in parts], trained, measured, warnings)
  print(f"the run's page: {this.folder / 'index.html'}")
  if asked.record:
    records.publish(records.home(build), name, measured, picture)
  return this.folder


def _prepared(experiments: Mapping[str, Experiment], config: Any) -> list[_Part]:
  """Each experiment with its batches, of which it is known, without compiling, that it can be trained on them."""
  parts = []
  for folder, one in experiments.items():
    batches = [one.train_batches(seed) for seed in seeds_of(group_of(config, Training))]
    example = next(iter(own_share(batches[0])))
    # `init` is given the batch itself, as a learner may look at what is in it.
    shapes = jax.eval_shape(lambda key, one=one, batch=example: one.learner.init(key, batch), jax.random.key(0))
    if one.check is not None:
      one.check(shapes, example)
    parts.append(_Part(folder, one, batches, example, shapes))
  return parts


def _check_checkpoints(this: Run, part: _Part, config: Any):
  """Refuses to go on from checkpoints of another learner."""
  if not this.resumed:
    return
  params, state = part.shapes
  flags = group_of(config, Training)
  for folder in groups(flags, flags.seeds_at_once or 1):
    Checkpoints(this.folder / part.folder / folder / "checkpoints").check({"params": params, "state": state})


def _at_once(this: Run, part: _Part, config: Any) -> int:
  """How many seeds train side by side: as before, as asked, or as many as the memory allows."""
  flags, one = group_of(config, Training), part.experiment
  if flags.seeds == 1:
    return 1
  before = configuration(this.folder).get("seeds_at_once") if this.resumed else None
  asked = before or flags.seeds_at_once
  at_once = asked or seeds_at_once(one.learner, one.optimizer, part.batches, list(seeds_of(flags)))
  print(f"{flags.seeds} seeds, {at_once} at once")
  return at_once


def _train(this: Run, part: _Part, rows: int, devices: int, config: Any) -> Trained:
  """Trains all seeds of an experiment, and says how it went."""
  one, flags, states, seconds, waiting = part.experiment, group_of(config, Training), [], 0.0, []
  if part.folder:
    print(f"{one.title or one.name}")
  for folder, seeds in groups(flags, part.at_once).items():
    where = f"{part.folder}/{folder}".strip("/")
    batches, seed = side_by_side([part.batches[seed - flags.seed] for seed in seeds], seeds)
    how: dict[str, Any] = {"validate": one.validate, "validate_every": flags.validate_every} if one.validate else {}
    found, took = training.train(
      this, one.learner, one.optimizer, batches, flags.steps, rows=rows * len(seeds), part=where, seed=seed, **how
    )
    if one.validate and one.keep == "last":
      with Checkpoints(this.folder / where / "checkpoints") as checkpoints:
        found = restore(one.learner, one.optimizer, batches, checkpoints, seed=seed, best=False)
    states += each_seed(found, seed)
    seconds += took
    waiting += [row["waiting_for_data"] for row in read_metrics(this.folder / where) if "waiting_for_data" in row]
  share_waiting = float(np.mean(waiting or [0.0]))
  chosen = f", step {' '.join(str(int(state.step)) for state in states)} of {flags.steps} chosen by validation"
  print(
    f"\ntrained for {seconds:.0f} s on {devices} device(s), {100 * share_waiting:.1f}% of it waiting for data"
    + chosen * (one.keep == "best")
  )
  learner = one.learner if one.choose is None else one.choose(states)
  return Trained(states, learner, seconds, flags.steps, devices, flags.seed, share_waiting, part.batches)
