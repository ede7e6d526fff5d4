"""Files of a run, which the first of several hosts writes."""

from pathlib import Path

from metajax import paths
from metajax.mesh import is_primary_host


def write_whole(path: Path, content: bytes):
  """Writes a file whole or not at all, its folder made where it is missing; of several hosts the first one does.

  Raises:
    OSError: naming the file.
  """
  if is_primary_host():
    paths.write_whole(path, content)
