"""A user's files: only regular ones are opened, and only names that are a file's are looked for."""

import errno
import os
import re
import stat
import zipfile
import zlib
from typing import IO, Any

from metajax.paths import AnyPath

LONGEST = 255  # bytes of a file's name, on all usual disks
KINDS = (
  (stat.S_ISFIFO, "a FIFO"),
  (stat.S_ISSOCK, "a socket"),
  (stat.S_ISCHR, "a device"),
  (stat.S_ISBLK, "a device"),
  (stat.S_ISDIR, "a folder"),
)
BROKEN_ARCHIVE = (  # what reading an archive of arrays may raise beside OSError
  ValueError,
  EOFError,
  KeyError,
  NotImplementedError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)


def check_regular(path: AnyPath):
  """Refuses what is no regular file, before it is opened: a FIFO would never end, and a device may do anything.

  Raises:
    OSError: saying what it is, or that it is not there.
  """
  mode = os.stat(path).st_mode
  if not stat.S_ISREG(mode):
    kind = next((kind for is_one, kind in KINDS if is_one(mode)), "of an unknown kind")
    raise OSError(errno.EINVAL, f"{kind}, expected a regular file", os.fspath(path))


def open_regular(path: AnyPath, mode: str = "rb", **options: Any) -> IO:
  """`open`, of a regular file alone.

  Raises:
    OSError: it is none, or cannot be opened.
  """
  check_regular(path)
  return open(path, mode, **options)


def checked_name(name: AnyPath) -> str:
  """The name of a data set or the path of a user's data, with `~` as the home folder.

  Raises:
    ValueError: it is no text or path, no name that a disk could hold, or a bucket's or a URL.
  """
  if not isinstance(name, str | os.PathLike):
    raise ValueError(f"expected the name of a data set or a path, got a {type(name).__name__}")
  name = os.fspath(name)
  if not isinstance(name, str) or not name or "\0" in name:
    raise ValueError(f"expected the name of a data set or a path, got {name!r}")
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):  # one slash: a Path of a URL has lost the other
    raise ValueError(
      f"expected the name of a data set or a path on this machine, got {name!r}: copy it to a disk or mount the bucket "
      "(of prepared TFDS data, the folder of data sets may be in a bucket: data_dir or TFDS_DATA_DIR)"
    )
  longest = max(len(part.encode("utf-8", "surrogatepass")) for part in name.split("/"))
  if longest > LONGEST:
    raise ValueError(
      f"expected the name of a data set or a path whose parts have at most {LONGEST} bytes, got one of {longest}: "
      f"{name[:30]!r}..."
    )
  return os.path.expanduser(name)


TO_SKIP = "pass skip_unreadable=True (--skip-unreadable) to leave it out"


def is_path(name: str) -> bool:
  """Whether a data set's name can only be a file or folder."""
  return (
    os.path.isabs(name) or name.startswith(("./", "../", "~")) or name.endswith((".csv", ".npz")) or name in (".", "..")
  )
