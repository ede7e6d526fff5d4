"""Opens a user's files: regular files only, by valid names only."""

import errno
import io
import os
import stat
import zipfile
import zlib
from typing import IO, Any

from metajax.paths import AnyPath, checked_url, is_url, place, read_bytes

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
  if is_url(path):
    if not is_file(path):
      raise FileNotFoundError(errno.ENOENT, "no such file in the bucket", os.fspath(path))
    return
  mode = os.stat(path).st_mode
  if not stat.S_ISREG(mode):
    kind = next((kind for is_one, kind in KINDS if is_one(mode)), "of an unknown kind")
    raise OSError(errno.EINVAL, f"{kind}, expected a regular file", os.fspath(path))


def open_regular(path: AnyPath, mode: str = "rb", **options: Any) -> IO:
  """`open` for regular files only; a file in a bucket is read whole.

  Raises:
    OSError: if the file is not regular, or cannot be opened.
  """
  if is_url(path):
    content = io.BytesIO(read_bytes(place("a file of the data", path)))
    return content if "b" in mode else io.TextIOWrapper(content, **options)
  check_regular(path)
  return open(path, mode, **options)


def is_folder(path: AnyPath) -> bool:
  """Whether a path is a folder, on this machine or in a bucket."""
  return place("a folder of the data", path).is_dir() if is_url(path) else os.path.isdir(path)


def is_file(path: AnyPath) -> bool:
  """Whether a path is a file, on this machine or in a bucket."""
  return place("a file of the data", path).is_file() if is_url(path) else os.path.isfile(path)


def checked_name(name: AnyPath, buckets: bool = False) -> str:
  """Checks the name of a data set or the path of a user's data, and expands `~`.

  Args:
    name: name or path.
    buckets: whether the data may be in a bucket.

  Raises:
    ValueError: if it is not a string or path, not a valid file name, or the URL of a website or of a bucket that is not
      opened here, or of any bucket unless `buckets`.
  """
  if not isinstance(name, str | os.PathLike):
    raise ValueError(f"expected the name of a data set or a path, got a {type(name).__name__}")
  name = os.fspath(name)
  if not isinstance(name, str) or not name or "\0" in name:
    raise ValueError(f"expected the name of a data set or a path, got {name!r}")
  if is_url(name) and buckets:
    name = checked_url("the data", name)
  elif is_url(name):
    raise ValueError(
      f"expected the name of a data set or a path on this machine, got {name!r}: copy it to a disk or mount the bucket "
      "(labeled or captioned images may be in one, and the folder of prepared TFDS data: data_dir or TFDS_DATA_DIR)"
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
  if is_url(name) or os.path.isabs(name) or name.startswith(("./", "../", "~")):
    return True
  return name.endswith((".csv", ".npz")) or name in (".", "..")
