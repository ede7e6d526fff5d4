"""Files that grow: appended to on a disk, in numbered parts in a bucket, which has no append.

In a bucket, a file `metrics.jsonl` that grows is the objects `metrics.jsonl.part-00001-first`,
`metrics.jsonl.part-00002`, ... in the order of their numbers. It begins anew with another "first" part, whose number is
higher: one put, so that at any moment the old or the new content is there. `merge` makes one object of the parts.
"""

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metajax.paths.files import naming, read_bytes, store, write_whole
from metajax.paths.places import remote

PART = re.compile(r"(.+)\.part-(\d{5,})(-first)?")  # the first of a file's parts begins it anew


class _Part(NamedTuple):
  """A part of a file: its number, whether the file begins with it, and its path."""

  number: int
  first: bool
  path: Path


def begin(path: Path, content: bytes):
  """Writes a file anew, whole, to be appended to."""
  if not remote(path):
    write_whole(path, content)
    return
  old = _all_parts(path)
  write_whole(_part(path, _next(old), first=True), content)
  _delete(old)


@contextmanager
def appending(path: Path) -> Generator[Callable[..., None]]:
  """A context manager that yields `append(content, sync=False)`; with `sync` the content is on disk afterwards.

  In a bucket each call is one put, of the next part.

  Raises:
    OSError: if the file cannot be written; the message names it.
  """
  if remote(path):
    yield _putting(path)
    return
  # Unbuffered, so that what is written survives a crash and closing cannot fail.
  with naming(path):
    file = path.open("ab", buffering=0)
  with file:
    yield lambda content, sync=False: _append(path, file, content, sync)


def read(path: Path) -> bytes:
  """The content of a file, b"" if there is none; in a bucket that of its parts, or of the object if it has none."""
  if not remote(path):
    return path.read_bytes() if path.exists() else b""
  if parts := _parts(path):
    return b"".join(read_bytes(part.path) for part in parts)
  try:
    return read_bytes(path)
  except FileNotFoundError:
    return b""


def merge(path: Path):
  """Makes one object of a file's parts in a bucket; on a disk there is nothing to do."""
  if remote(path) and (parts := _parts(path)):
    write_whole(path, read(path))
    _delete(sorted(parts, key=lambda part: not part.first))  # without the first one, the object counts


def base(path: Path) -> Path:
  """The file that a path is a part of, or the path itself."""
  found = PART.fullmatch(path.name)
  return path.with_name(found[1]) if found else path


def _putting(path: Path) -> Callable[..., None]:
  parts = _parts(path)
  following = _next(_all_parts(path))
  before = b"" if parts else read(path)

  def append(content: bytes, sync: bool = False):
    nonlocal following, before, parts
    write_whole(_part(path, following, first=not parts), before + content)
    following, before, parts = following + 1, b"", parts or [_Part(following, True, path)]

  return append


def _append(path: Path, file: BinaryIO, content: bytes, sync: bool):
  with naming(path):
    while content:  # a disk that fills up may take only a part
      content = content[file.write(content) :]
    if sync:
      os.fsync(file.fileno())


def _part(path: Path, number: int, first: bool) -> Path:
  return path.with_name(f"{path.name}.part-{number:05}{'-first' if first else ''}")


def _next(parts: list[_Part]) -> int:
  return max((part.number for part in parts), default=0) + 1


def _all_parts(path: Path) -> list[_Part]:
  """All parts of a file in order, those too that are not deleted yet since it began anew."""
  with store(path):
    there = path.parent.iterdir() if path.parent.exists() else ()
    found = [(PART.fullmatch(one.name), one) for one in there]
  ours = [(part, one) for part, one in found if part and part[1] == path.name]
  return sorted(_Part(int(part[2]), bool(part[3]), one) for part, one in ours)


def _parts(path: Path) -> list[_Part]:
  """The parts of a file in order, from the last first one on; none without one."""
  found = _all_parts(path)
  start = max((i for i, part in enumerate(found) if part.first), default=len(found))
  return found[start:]


def _delete(parts: list[_Part]):
  for part in parts:
    part.path.unlink(missing_ok=True)
