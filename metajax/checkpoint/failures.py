"""What kept a checkpoint from being written or read, said in one line."""

import errno
import math
import os
import shutil
from pathlib import Path


def check_space(folder: Path, needed: int):
  """Finds before anything is written that it will not fit: orbax says so in hundreds of lines.

  Raises:
    OSError: with how many bytes are needed, and free.
  """
  there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
  free = math.inf if there is None else shutil.disk_usage(there).free
  if free < needed:
    raise OSError(f"{os.strerror(errno.ENOSPC)}: it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free")


def first_line(error: BaseException) -> str:
  """What went wrong at the root, in one line."""
  while error.__cause__ is not None:
    error = error.__cause__
  said = next(iter(str(error).splitlines()), "") or type(error).__name__
  if isinstance(error, OSError):
    said = said.removeprefix(f"[Errno {error.errno}] ")
  known = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)]
  # The file system's own word, out of a long line of scratch files.
  return next((word for word in known if word in said and len(said) > 200), said)
