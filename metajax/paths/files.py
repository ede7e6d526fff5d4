"""Reads and writes files: writes are atomic, and errors name the file."""

import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from metajax import checks
from metajax.paths.places import remote

SCRATCH = ".scratch"  # name prefix of files being written; TensorBoard would read any name that contains "tfevents"
PIECE = 2**24  # bytes that are copied at once


@contextmanager
def writing(path: Path | str) -> Generator[BinaryIO]:
  """A context manager for atomic writes: it yields an empty temporary file, which replaces `path` at the end.

  The temporary file has a random name, so that several processes may write the same path or folder, and it must not
  exist yet, so that no planted link is followed. It is removed after an error. For a bucket it is in memory, and put
  there at once.

  Args:
    path: path of the file; missing folders are created.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  if remote(path):
    with io.BytesIO() as file:
      yield file
      put(cast(Path, path), file)
    return
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
    if remote(path):
      content = read_bytes(cast(Path, path))
    else:
      if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would block
        raise OSError(errno.EINVAL, "expected a regular file, got another kind")
      content = Path(path).read_bytes()
  return checks.parse_json(str(path), content, kind)


def exists(path: Path) -> bool:
  """Whether there is a file or folder; a folder in a bucket is there if a name begins with it.

  Raises:
    OSError: if a bucket does not answer.
  """
  with store(path):
    return path.exists()


def read_bytes(path: Path) -> bytes:
  """The content of a file.

  Raises:
    OSError: if it is missing or cannot be read; the message names it.
  """
  with store(path):
    return path.read_bytes()


def move(path: Path, to: Path):
  """Renames a file, replacing another one; in a bucket it is copied and then deleted."""
  if remote(path):
    write_whole(to, read_bytes(path))
    with store(path):
      path.unlink()
  else:
    os.replace(path, to)


@contextmanager
def alone(folder: Path | str):
  """A context manager that holds an exclusive lock on a folder; a no-op if the system, disk or bucket has no locks.

  The lock is released with the block, or with the process, however that ends.
  """
  try:
    import fcntl

    held = os.open("" if remote(folder) else folder, os.O_RDONLY)
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


@contextmanager
def store(path: Path):
  """A context manager that turns the exceptions of a bucket's library, of whatever kind, into OSErrors of one line."""
  try:
    yield
  except FileNotFoundError as error:
    raise FileNotFoundError(errno.ENOENT, error.strerror or "no such file", str(path)) from error
  except OSError as error:
    raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
  except Exception as error:
    said = next(iter(str(error).splitlines()), "") or type(error).__name__
    raise OSError(errno.EIO, said, str(path)) from error


def put(path: Path, content: BinaryIO):
  """Puts an object into a bucket: all of it is there at once, when the file is closed."""
  with store(path):
    try:
      _copy(content, path)
    except FileNotFoundError:  # a store that has folders after all
      path.parent.mkdir(parents=True, exist_ok=True)
      _copy(content, path)


def _copy(content: BinaryIO, path: Path):
  content.seek(0)
  with path.open("wb") as file:
    shutil.copyfileobj(content, cast(Any, file), PIECE)
