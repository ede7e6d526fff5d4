"""Reads and writes files: writes are atomic, and errors name the file."""

import errno
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from metajax import checks

AnyPath = str | os.PathLike  # path of a file or folder
SCRATCH = ".scratch"  # name prefix of files being written; TensorBoard would read any name that contains "tfevents"


@contextmanager
def writing(path: Path | str) -> Generator[BinaryIO]:
  """A context manager for atomic writes: it yields an empty temporary file, which replaces `path` at the end.

  The temporary file has a random name, so that several processes may write the same path or folder, and it must not
  exist yet, so that no planted link is followed. It is removed after an error.

  Args:
    path: path of the file; missing folders are created.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  path = Path(path)
  scratch = path.with_name(f"{SCRATCH}-{os.getpid()}-{secrets.token_hex(8)}")
  with naming(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with scratch.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # before the rename, so that a power cut leaves the old or the new file
      os.replace(scratch, path)
    finally:
      scratch.unlink(missing_ok=True)


def write_whole(path: Path | str, content: bytes):
  """Writes a file atomically, as `writing` does.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  with writing(path) as file:
    file.write(content)


def read_json(path: Path | str, kind: type = dict) -> Any:
  """Reads an untrusted JSON file.

  Args:
    path: path of the file.
    kind: expected type of the value.

  Returns:
    The parsed value.

  Raises:
    OSError: if the file is missing, not regular, or cannot be read; the message names it.
    ValueError: as for `checks.parse_json`; the message names the file.
  """
  with naming(path):
    if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would block
      raise OSError(errno.EINVAL, "expected a regular file, got another kind")
    content = Path(path).read_bytes()
  return checks.parse_json(str(path), content, kind)


@contextmanager
def alone(folder: Path | str):
  """A context manager that holds an exclusive lock on a folder; a no-op if the system or disk has no locks.

  The lock is released with the block, or with the process, however that ends.
  """
  try:
    import fcntl

    held = os.open(folder, os.O_RDONLY)
  except (ImportError, OSError):  # this system has no such lock
    yield
    return
  try:
    with suppress(OSError):  # a network disk may have no locks
      fcntl.flock(held, fcntl.LOCK_EX)
    yield
  finally:
    os.close(held)


@contextmanager
def naming(path: Path | str):
  """A context manager that adds the file's name to OSErrors, which those of a full disk lack."""
  try:
    yield
  except OSError as error:
    raise OSError(error.errno, error.strerror or str(error), str(path)) from error
