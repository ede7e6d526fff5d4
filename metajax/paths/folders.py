"""Folders, on a disk and in a bucket, where a folder is no more than the beginning of its files' names."""

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from metajax.paths.files import PIECE, put, store, writing
from metajax.paths.places import remote


def make_folder(path: Path):
  """Makes a folder and those above it; a bucket needs none."""
  if not remote(path):
    path.mkdir(parents=True, exist_ok=True)


def files_in(folder: Path) -> list[Path]:
  """All files in a folder, recursively and sorted; those in a bucket by one listing. None if there is no folder."""
  if not remote(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())
  with store(folder):
    found = cast(Any, folder).walk() if folder.exists() else ()  # `is_dir` is False where a bucket does not answer
    return sorted(top / name for top, _, names in found for name in names)


def remove_tree(folder: Path, first: str = ""):
  """Deletes a folder with all that is in it, if it is there.

  Args:
    folder: the folder.
    first: in a bucket, the file in it that is deleted first, as it says that the others are complete.
  """
  if not remote(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return
  with store(folder):
    for path in sorted(files_in(folder), key=lambda path: path != folder / first):
      path.unlink(missing_ok=True)
  with suppress(Exception):  # what is left of a folder in a store that has folders
    cast(Any, folder).rmtree(missing_ok=True)


def put_folder(folder: Path, to: Path, last: str = ""):
  """Copies the files of a local folder into a folder of a bucket.

  Args:
    folder: local folder.
    to: folder in a bucket.
    last: the file that is put last, as it says that the others are complete.
  """
  for path in sorted(files_in(folder), key=lambda path: path == folder / last):
    with path.open("rb") as file:
      put(to / path.relative_to(folder).as_posix(), file)


def fetch_folder(folder: Path, to: Path):
  """Copies the files of a folder of a bucket into a local folder.

  Raises:
    OSError: if a file cannot be read, or one has a name that leaves the folder.
  """
  for path in files_in(folder):
    name = path.relative_to(folder).as_posix()
    if ".." in name.split("/"):
      raise OSError(errno.EINVAL, "expected names inside of the folder", str(path))
    with store(path), path.open("rb") as file, writing(to / name) as copy:
      shutil.copyfileobj(file, copy, PIECE)
