"""One-line reasons why a checkpoint could not be written or read."""

import errno
import math
import os
import shutil
from pathlib import Path

from metajax.paths import remote


def check_space(folder: Path, needed: int):
  """Checks the free disk space before writing: orbax would fail with hundreds of lines.

  Raises:
    OSError: if there is too little; the message has the needed and the free megabytes.
  """
  if remote(folder):
    return
  there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
  free = math.inf if there is None else shutil.disk_usage(there).free
  if free < needed:
    raise OSError(f"{os.strerror(errno.ENOSPC)}: it needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free")


def first_line(error: BaseException) -> str:
  """Returns the first line of an exception's root cause."""
  while error.__cause__ is not None:
    error = error.__cause__
  said = next(iter(str(error).splitlines()), "") or type(error).__name__
  if isinstance(error, OSError):
    said = said.removeprefix(f"[Errno {error.errno}] ")
  known = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)]
  # Extracts the file system's message from a long line of scratch file names.
  return next((word for word in known if word in said and len(said) > 200), said)
