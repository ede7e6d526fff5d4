"""Artifacts: files that a later use of a run needs in addition to its checkpoints, such as a tokenizer."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from metajax import paths
from metajax.experiment.run_folder import Run
from metajax.mesh import is_primary_host

Artifacts = Mapping[str, Callable[[Path], None]]  # {file name: write(path)}


def check_artifacts(run: Run, artifacts: Artifacts):
  """Refuses to resume a run whose data have changed, as its parameters would no longer fit the artifacts.

  Raises:
    ValueError: naming the artifact that would change.
  """
  if not run.resumed:
    return
  with tempfile.TemporaryDirectory() as folder:
    for name, write in artifacts.items():
      there, now = run.folder / name, Path(folder) / name
      write(now)
      if paths.exists(there) and paths.read_bytes(there) != now.read_bytes():
        raise ValueError(f"expected the training data of the run in {str(run.folder)!r}, got others: {name} differs")


def write_artifacts(run: Run, artifacts: Artifacts):
  """Writes the artifacts into the run's folder, on the primary host only."""
  for name, write in artifacts.items() if is_primary_host() else ():
    if not paths.remote(run.folder):
      write(run.folder / name)
      continue
    with tempfile.TemporaryDirectory() as folder:  # `write` may write on a disk alone
      write(Path(folder) / name)
      paths.put_folder(Path(folder), run.folder)
