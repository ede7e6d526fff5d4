"""Files of a run, written by the primary host."""

from pathlib import Path

from metajax import paths
from metajax.mesh import is_primary_host


def write_whole(path: Path, content: bytes):
  """Writes a file atomically and creates missing folders; only the primary host does.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  if is_primary_host():
    paths.write_whole(path, content)


def begin(path: Path, content: bytes):
  """Writes a file anew, to be appended to by `paths.appending`; only the primary host does.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  if is_primary_host():
    paths.begin(path, content)
