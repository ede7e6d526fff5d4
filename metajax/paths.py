"""Files that all rooms write and read: each is whole or not there, and errors name it."""

import errno
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from metajax import checks

AnyPath = str | os.PathLike  # of a file or folder
SCRATCH = ".scratch"  # how names begin of what is being written; TensorBoard reads whatever has "tfevents" in its name


@contextmanager
def writing(path: Path | str) -> Generator[BinaryIO]:
  """Gives an empty file beside a path, whose place it takes at the end: the path's file is whole or as it was.

  The file has a name of its own, so that several processes may write the same path, or others of its folder; and it
  is a new one, so that no link which was planted there is followed. After an error it is removed.

  Args:
    path: of the file, its folder made where it is missing.

  Raises:
    OSError: naming the file.
  """
  path = Path(path)
  scratch = path.with_name(f"{SCRATCH}-{os.getpid()}-{secrets.token_hex(8)}")
  with naming(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with scratch.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # before it takes its name, so that a power cut leaves one or the other
      os.replace(scratch, path)
    finally:
      scratch.unlink(missing_ok=True)


def write_whole(path: Path | str, content: bytes):
  """Writes a file whole or not at all, as `writing` does.

  Raises:
    OSError: naming the file.
  """
  with writing(path) as file:
    file.write(content)


def read_json(path: Path | str, kind: type = dict) -> Any:
  """What a JSON file holds, which may be anybody's.

  Raises:
    OSError: it is not there, is no regular file or cannot be read, naming it.
    ValueError: as `checks.parse_json`, naming it.
  """
  with naming(path):
    if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would never end
      raise OSError(errno.EINVAL, "expected a regular file, got another kind")
    content = Path(path).read_bytes()
  return checks.parse_json(str(path), content, kind)


@contextmanager
def alone(folder: Path | str):
  """Keeps other processes waiting that ask for the same folder; where a disk cannot do that, it does nothing.

  It ends with the block, and with the process, however that ends.
  """
  try:
    import fcntl

    held = os.open(folder, os.O_RDONLY)
  except (ImportError, OSError):  # no such lock on this system
    yield
    return
  try:
    with suppress(OSError):  # a disk of another machine may have none
      fcntl.flock(held, fcntl.LOCK_EX)
    yield
  finally:
    os.close(held)


@contextmanager
def naming(path: Path | str):
  """Names the file in the errors of what is done to it: those of a full disk do not."""
  try:
    yield
  except OSError as error:
    raise OSError(error.errno, error.strerror or str(error), str(path)) from error
