"""What a run's folder needs beside its checkpoints to be used again: a tokenizer, a palette."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from metajax.experiment.run_folder import Run
from metajax.mesh import is_primary_host

Artifacts = Mapping[str, Callable[[Path], None]]  # {file name: write(path)}


def check_artifacts(run: Run, artifacts: Artifacts):
  """Refuses to go on with a run whose data are others now: what it has learned would mean something else.

  Raises:
    ValueError: naming the file that would be another one.
  """
  if not run.resumed:
    return
  with tempfile.TemporaryDirectory() as folder:
    for name, write in artifacts.items():
      there, now = run.folder / name, Path(folder) / name
      write(now)
      if there.exists() and there.read_bytes() != now.read_bytes():
        raise ValueError(f"expected the data that the run in {str(run.folder)!r} was trained on, got others: {name}")


def write_artifacts(run: Run, artifacts: Artifacts):
  """Writes them into the run's folder; of several hosts the first one does so."""
  for name, write in artifacts.items() if is_primary_host() else ():
    write(run.folder / name)
