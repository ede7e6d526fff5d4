"""Experiments: one driver that turns `build(config) -> Experiment` into a command.

A run has a folder with its configuration, metrics, checkpoints, records, figures and a page. It can be resumed, trains
several seeds in parallel, and runs on several devices and hosts. `metajax/experiment/types.py` defines the records that
make up an experiment.
"""

from metajax.experiment.command_line import command
from metajax.experiment.driver import main, run
from metajax.experiment.evaluators import PIXELS, EvalMode, FewShot
from metajax.experiment.finished_runs import FinishedRun, read_run, states_of
from metajax.experiment.types import RUN, Evaluator, Experiment, Record, RunFlags, Trained, Training

__all__ = [
  "PIXELS",
  "RUN",
  "EvalMode",
  "Evaluator",
  "Experiment",
  "FewShot",
  "FinishedRun",
  "Record",
  "RunFlags",
  "Trained",
  "Training",
  "command",
  "main",
  "read_run",
  "run",
  "states_of",
]
