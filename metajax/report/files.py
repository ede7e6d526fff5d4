"""Files that are whole or not there, and errors that name them."""

import os
from contextlib import contextmanager
from pathlib import Path

from metajax.mesh import first_host

SCRATCH = ".scratch"  # in the folder of what is written; TensorBoard reads whatever has "tfevents" in its name


def write_whole(path: Path, content: bytes):
  """Writes a file whole or not at all, its folder made where it is missing; of several hosts the first one does.

  Raises:
    OSError: naming the file.
  """
  if not first_host():
    return
  path = Path(path)
  scratch = path.with_name(SCRATCH)
  with naming(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())  # before it takes its name, so that a power cut leaves one or the other
    os.replace(scratch, path)


@contextmanager
def naming(path: Path):
  """Names the file in the errors of what is done to it: those of a full disk do not."""
  try:
    yield
  except OSError as error:
    raise OSError(error.errno, error.strerror or str(error), str(path)) from error
