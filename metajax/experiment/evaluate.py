"""Evaluates finished runs of any experiment again, with the evaluators of the experiment.

python -m metajax.experiment.evaluate runs/mine-20261124-101500 --modules my_experiment
"""

import os
import time
from typing import Annotated

from metajax.experiment import records
from metajax.experiment.bounds import Count, RunPaths
from metajax.experiment.command_line import command
from metajax.experiment.devices import on_devices
from metajax.experiment.finished_runs import FinishedRun, read_run, seconds_of, set_precision_of, states_of
from metajax.experiment.seeds import seeds_of
from metajax.experiment.types import Experiment, Record, Trained


def main(
  folders: RunPaths,
  modules: tuple[str, ...] = (),
  devices: Annotated[int | None, *Count.__metadata__] = None,
):
  """Evaluates finished runs again, and writes the records into their folders.

  Args:
    folders: Folders of the runs.
    modules: Names of the Python modules of the runs' experiments, to import.
    devices: Number of devices that share the work; by default all.
  """
  if not folders:
    raise ValueError("expected one or more run folders, got none")
  found = [read_run(folder, modules) for folder in folders]
  set_precision_of(found)
  with on_devices(devices):
    for run in found:
      print(run.folder)
      measured = evaluate(run)
      path = run.folder / time.strftime(f"evaluation-%Y%m%d-%H%M%S-{os.getpid()}.json")
      records.write(path, [records.flat(record) for record in measured])
      print(f"\nrecords: {path}")


def evaluate(run: FinishedRun) -> list[Record]:
  """Runs the evaluators of a finished run, and returns their records.

  Raises:
    ValueError: if the run trained several learners, or has not finished.
  """
  experiment, trained = trained_of(run)
  return [record for one in experiment.evaluate for record in one(trained)]


def trained_of(run: FinishedRun) -> tuple[Experiment, Trained]:
  """Builds the experiment of a finished run, and restores its result.

  Raises:
    ValueError: if the run trained several learners, or has not finished.
  """
  experiment = run.module.build(run.config)
  if not isinstance(experiment, Experiment):
    raise ValueError(f"expected a run of one learner in {str(run.folder)!r}, got several")
  if seconds_of(run) is None:
    raise ValueError(f"expected a finished run, got one without records in {str(run.folder)!r}")
  flags, session = run.training, run.configuration["sessions"][-1]
  best, batches = experiment.keep == "best", {seed: experiment.train_batches(seed) for seed in seeds_of(flags)}
  states = states_of(run, experiment.learner, experiment.optimizer, batches.__getitem__, best)
  learner = experiment.learner if experiment.choose is None else experiment.choose(states)
  seconds, devices = seconds_of(run) or 0.0, session.get("devices", 1)
  return experiment, Trained(states, learner, seconds, flags.steps, devices, flags.seed, 0.0, [*batches.values()])


if __name__ == "__main__":
  command(main)
