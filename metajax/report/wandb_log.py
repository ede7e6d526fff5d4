"""Metrics as a run of Weights & Biases."""

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from metajax.mesh import is_primary_host
from metajax.report.rows import row_of
from metajax.types import MetricLogger


def check_wandb() -> Any:
  """The package of Weights & Biases.

  Raises:
    ModuleNotFoundError: if it is not installed; the message gives the command that installs it.
  """
  try:
    wandb = importlib.import_module("wandb")
  except ModuleNotFoundError:
    wandb = None
  if not hasattr(wandb, "init"):  # a folder of that name, with the files of a run, can be imported too
    raise ModuleNotFoundError("the package of Weights & Biases is not installed: pip install wandb")
  return wandb


@contextmanager
def wandb_log(**init: Any) -> Generator[MetricLogger]:
  """A context manager that yields a logger, `log(step, metrics)`, which adds to a run of Weights & Biases.

  The run ends with the block, as failed if an exception ends it. With an `id` a later call resumes the same run, and
  steps that Weights & Biases already has are skipped. Only the primary host logs.

  Args:
    init: arguments of `wandb.init`, e.g. `project`, `name`, `id`, `config` (the flags of the run), `dir` (folder of its
      files), and `mode="offline"`, which writes files alone, for `wandb sync`. With an `id`, `resume` is "allow".

  Raises:
    ModuleNotFoundError: if the package wandb is not installed.
    ValueError: if Weights & Biases refuses to start the run, e.g. without a login; or if a metric is called "step" or
      "time".
  """
  if not is_primary_host():
    yield lambda step, metrics: None
    return
  wandb = check_wandb()
  resume = {"resume": "allow"} if "id" in init else {}
  try:
    run = wandb.init(**(resume | init))
  except wandb.Error as error:
    raise ValueError(f"Weights & Biases refused to start the run: {' '.join(str(error).split())}") from error
  status = 1

  def log(step, metrics):
    row = row_of(step, metrics)
    if row["step"] >= run.starting_step:  # Weights & Biases would warn of each step that it already has
      run.log({name: value for name, value in row.items() if name in metrics}, step=row["step"])

  try:
    yield log
    status = 0
  finally:
    run.finish(exit_code=status)
