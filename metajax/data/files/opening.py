"""Opens a user's files: regular files only, by valid names only."""

import errno
import os
import re
import stat
import zipfile
import zlib
from typing import IO, Any

from metajax.paths import AnyPath

LONGEST = 255  # bytes of a file's name, on all common file systems
KINDS = (
  (stat.S_ISFIFO, "a FIFO"),
  (stat.S_ISSOCK, "a socket"),
  (stat.S_ISCHR, "a device"),
  (stat.S_ISBLK, "a device"),
  (stat.S_ISDIR, "a folder"),
)
BROKEN_ARCHIVE = (  # exceptions besides OSError that reading an archive of arrays may raise
  ValueError,
  EOFError,
  KeyError,
  NotImplementedError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)


def check_regular(path: AnyPath):
  """Raises unless a path is a regular file, before it is opened: a FIFO would block, and a device may do anything.

  Raises:
    OSError: if the path is missing or of another kind, which the message names.
  """
  mode = os.stat(path).st_mode
  if not stat.S_ISREG(mode):
    kind = next((kind for is_one, kind in KINDS if is_one(mode)), "of an unknown kind")
    raise OSError(errno.EINVAL, f"{kind}, expected a regular file", os.fspath(path))


def open_regular(path: AnyPath, mode: str = "rb", **options: Any) -> IO:
  """`open` for regular files only.

  Raises:
    OSError: if the file is not regular, or cannot be opened.
  """
  check_regular(path)
  return open(path, mode, **options)


def checked_name(name: AnyPath) -> str:
  """Checks the name of a data set or the path of a user's data, and expands `~`.

  Raises:
    ValueError: if it is not a string or path, not a valid file name, or the URL of a bucket or website.
  """
  if not isinstance(name, str | os.PathLike):
    raise ValueError(f"expected the name of a data set or a path, got a {type(name).__name__}")
  name = os.fspath(name)
  if not isinstance(name, str) or not name or "\0" in name:
    raise ValueError(f"expected the name of a data set or a path, got {name!r}")
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):  # one slash: pathlib drops the other one of a URL
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
