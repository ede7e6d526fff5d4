"""Exports a finished run to a folder.

metajax export runs/mine my_model
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from metajax.experiment.bounds import MayBeRemote
from metajax.experiment.command_line import command
from metajax.experiment.evaluate import trained_of
from metajax.experiment.exports import export_run
from metajax.experiment.finished_runs import read_run, set_precision_of
from metajax.experiment.records import read
from metajax.export import EXPORT, load_exported
from metajax.mesh import host_batches
from metajax.paths import fetch_folder, remote


def export(
  run: Annotated[Positional[Path], arg(metavar="RUN"), MayBeRemote()],
  folder: Annotated[Positional[Path], arg(metavar="FOLDER")],
  modules: tuple[str, ...] = (),
):
  """Exports a finished run to a folder: parameters, StableHLO programs, a reader and a model card.

  The export in the run's folder is copied. A run without one is exported anew from its checkpoints; that imports the
  module of its experiment, which --modules must name.

  Args:
    run: Folder of a finished run.
    folder: New folder of the export.
    modules: Names of Python modules that may be imported, such as experiments.maml.
  """
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f"expected a new folder for the export, got {str(folder)!r}")
  if (run / EXPORT / "config.json").is_file() and not modules:
    load_exported(run / EXPORT)  # checks every file
    if remote(run):
      fetch_folder(run / EXPORT, folder)
    else:
      shutil.copytree(run / EXPORT, folder, dirs_exist_ok=True)
  else:
    sys.path.insert(0, os.getcwd())  # as `python -m` does, for modules of the user
    found = read_run(run, modules)
    set_precision_of([found])
    experiment, trained = trained_of(found)
    batch = next(iter(host_batches(trained.batches[0])))
    export_run(run, experiment, trained, batch, read(run / "records.json"), to=folder)
  print(f"export: {folder}")


if __name__ == "__main__":
  command(export, on_hosts=False)
