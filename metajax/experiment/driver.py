"""The one driver: whatever an experiment is, this trains it, measures it, and writes what was found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.checkpoint import Checkpoints
from metajax.experiment import command_line, headlines, records, run_folder
from metajax.experiment.artifacts import check_artifacts, write_artifacts
from metajax.experiment.configuration import configuration
from metajax.experiment.devices import on_devices
from metajax.experiment.finished_page import write_page
from metajax.experiment.groups import group_of
from metajax.experiment.run_folder import Run
from metajax.experiment.seeds import check_seeds, groups, seeds_of, side_by_side
from metajax.experiment.training import recorded
from metajax.experiment.types import Experiment, RunFlags, Trained, Training
from metajax.mesh import devices_for, host_batches, process_shard, shard_batch
from metajax.report import read_metrics
from metajax.train import each_seed, fit, restore, seeds_in_parallel
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
  in_parallel: int = 1


class _Begun(NamedTuple):
  """A run whose flags and data fit each other: its name and folder, its parts, the rows of a step, the devices."""

  name: str
  run: Run
  parts: list[_Part]
  rows: int
  devices: int


class _Group(NamedTuple):
  """Seeds that train side by side: their folder within the run's, how many, and what `fit` is given of them."""

  folder: str
  seeds: int
  batches: Batches
  how: dict[str, Any]


def main(build: Build, presets: Mapping[str, Any] | None = None):
  """Makes a command of an experiment: every flag of its config, presets by `--budget`, one clear line for bad input.

  Args:
    build: `config -> Experiment`, with its config's type as annotation.
    presets: `{name: config}`; the first is the one without `--budget`.

  Example:
    `if __name__ == "__main__": main(build, PRESETS)`
  """
  with command_line.session(build, presets) as config:
    run(build, config)


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
  begun = _begun(build, config)
  training, flags, trained = group_of(config, Training), group_of(config, RunFlags), []
  steps = training.steps
  with on_devices(begun.devices, fsdp=flags.fsdp):
    run, parts = _written(begun, config)
    for part in parts:
      one, ended = part.experiment, []
      for group in _groups(part, training):
        with recorded(run, group.folder, group.batches, steps, rows=begun.rows * group.seeds) as kept:
          state = fit(one.learner, one.optimizer, kept.batches, steps, **group.how, **kept.how)
        ended.append((group, state, kept.took()))
      trained.append(_trained(run, part, ended, begun.devices, training))
    found = [evaluate(one) for part, one in zip(parts, trained, strict=True) for evaluate in part.experiment.evaluate]
    measured = [records.flat(record) for some in found for record in some]
    records.write(run.folder / "records.json", measured)
    warnings = headlines.warn(run.folder, measured)
    image = write_page(run, [part.experiment for part in parts], trained, measured, warnings)
  print(f"the run's page: {run.folder / 'index.html'}")
  if flags.record:
    records.publish(records.home(build), begun.name, measured, image)
  return run.folder


def _begun(build: Build, config: Any) -> _Begun:
  """What a config describes, all of it looked at; nothing is written yet."""
  check_seeds(group_of(config, Training))
  run_folder.check(group_of(config, RunFlags))
  built = build(config)
  name = built.name if isinstance(built, Experiment) else command_line.module_of(build).rpartition(".")[2]
  run = run_folder.begin(name, build, config)
  parts = _prepared({"": built} if isinstance(built, Experiment) else {one.name: one for one in built}, config)
  for part in parts:
    _check_checkpoints(run, part, config)
  run_folder.check_same(run, config)
  for part in parts:
    check_artifacts(run, part.experiment.artifacts)
  rows = jax.tree.leaves(parts[0].example)[0].shape[0] * process_shard()[1]
  return _Begun(name, run, parts, rows, devices_for(rows, group_of(config, Training).devices))


def _written(begun: _Begun, config: Any) -> tuple[Run, list[_Part]]:
  """The run's folder with its configuration and artifacts; the parts know how many seeds train at once."""
  for part in begun.parts:
    shard_batch(part.example)  # refuses what the devices do not divide, before anything is written
  parts = [part._replace(in_parallel=_in_parallel(begun.run, part, config)) for part in begun.parts]
  said = {"seeds_at_once": parts[0].in_parallel} | {k: v for part in parts for k, v in part.experiment.said.items()}
  run = run_folder.write_configuration(begun.run, begun.devices, **said)
  for part in parts:
    write_artifacts(run, part.experiment.artifacts)
  return run, parts


def _prepared(experiments: Mapping[str, Experiment], config: Any) -> list[_Part]:
  """Each experiment with its batches, of which it is known, without compiling, that it can be trained on them."""
  parts = []
  for folder, one in experiments.items():
    batches = [one.train_batches(seed) for seed in seeds_of(group_of(config, Training))]
    example = next(iter(host_batches(batches[0])))
    # `init` is given the batch itself, as a learner may look at what is in it.
    shapes = jax.eval_shape(lambda key, one=one, batch=example: one.learner.init(key, batch), jax.random.key(0))
    if one.check is not None:
      one.check(shapes, example)
    parts.append(_Part(folder, one, batches, example, shapes))
  return parts


def _check_checkpoints(run: Run, part: _Part, config: Any):
  """Refuses to go on from checkpoints of another learner."""
  if not run.resumed:
    return
  params, state = part.shapes
  flags = group_of(config, Training)
  for folder in groups(flags, flags.seeds_in_parallel or 1):
    Checkpoints(run.folder / part.folder / folder / "checkpoints").check({"params": params, "state": state})


def _in_parallel(run: Run, part: _Part, config: Any) -> int:
  """How many seeds train side by side: as before, as asked, or as many as the memory allows."""
  flags, one = group_of(config, Training), part.experiment
  if flags.seeds == 1:
    return 1
  before = configuration(run.folder).get("seeds_at_once") if run.resumed else None
  asked = before or flags.seeds_in_parallel
  in_parallel = asked or seeds_in_parallel(one.learner, one.optimizer, part.batches, list(seeds_of(flags)))
  print(f"{flags.seeds} seeds, {in_parallel} at once")
  return in_parallel


def _groups(part: _Part, training: Training) -> Iterator[_Group]:
  """The trainings of an experiment, one after the other: each of a seed, or of some side by side."""
  if part.folder:
    print(f"{part.experiment.title or part.experiment.name}")
  validate = part.experiment.validate
  validated: dict[str, Any] = {"validate": validate, "eval_every": training.eval_every} if validate else {}
  for folder, seeds in groups(training, part.in_parallel).items():
    batches, seed = side_by_side([part.batches[seed - training.seed] for seed in seeds], seeds)
    yield _Group(f"{part.folder}/{folder}".strip("/"), len(seeds), batches, {"seed": seed, **validated})


def _trained(run: Run, part: _Part, ended: Sequence[tuple], devices: int, training: Training) -> Trained:
  """What the trainings of an experiment ended with; says how they went."""
  one, states, waiting = part.experiment, [], []
  for group, found, _ in ended:
    if one.validate and one.keep == "last":
      with Checkpoints(run.folder / group.folder / "checkpoints") as checkpoints:
        found = restore(one.learner, one.optimizer, group.batches, checkpoints, seed=group.how["seed"], best=False)
    states += each_seed(found, group.how["seed"])
    rows = read_metrics(run.folder / group.folder)
    waiting += [row["data_wait_fraction"] for row in rows if "data_wait_fraction" in row]
  seconds, share_waiting = sum(took for _, _, took in ended), float(np.mean(waiting or [0.0]))
  chosen = f", step {' '.join(str(int(state.step)) for state in states)} of {training.steps} chosen by validation"
  print(
    f"\ntrained for {seconds:.0f} s on {devices} device(s), {100 * share_waiting:.1f}% of it waiting for data"
    + chosen * (one.keep == "best")
  )
  learner = one.learner if one.choose is None else one.choose(states)
  return Trained(states, learner, seconds, training.steps, devices, training.seed, share_waiting, part.batches)
