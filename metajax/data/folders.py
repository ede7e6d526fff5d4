"""A folder of pictures as a table: every folder in it that holds pictures is a class."""

import contextlib
import os

from metajax.data.pillow import is_picture_name
from metajax.data.tables import SPLITS, make_table


def read_folder(path):
  """The `Table` of a folder, in the order of the pictures' relative paths.

  A class is named after the folder of its pictures, relative to `path`, and its group after the folder above. Where the
  folders of `path` are "train" and "test", and perhaps "validation" or "val", these are the set's own splits and
  classes are named from there on. Hidden files, and files that are not named like pictures, are passed over; links are
  followed.

  Raises:
    FileNotFoundError, NotADirectoryError, PermissionError: a folder cannot be read.
    ValueError: there are no pictures, pictures without a class, or fewer than two classes.
  """
  name, found = repr(path), []
  _walk(path, "", (), found)
  if not found:
    raise ValueError(
      f"{name} holds no pictures: expected folders of them, such as class/1.png or alphabet/letter/1.jpg"
    )
  found.sort()
  tops = {relative.split("/")[0] for relative in found if "/" in relative}
  has_splits = {"train", "test"} <= tops <= set(SPLITS)
  classes, groups, splits, last = [], [], [], None
  for relative in found:
    folder, _, file = relative.rpartition("/")
    if folder != last:
      last, split, label = folder, *_split_and_class(folder, has_splits)
    if not label:
      place = f"{path}/{split}".removesuffix("/")
      raise ValueError(
        f"the picture {file!r} lies in {place!r} itself: expected every picture in a folder of its class"
      )
    classes.append(label)
    groups.append(label.rpartition("/")[0])
    splits.append(SPLITS[split] if has_splits else "")
  paths = [os.path.join(path, relative) for relative in found]
  return make_table(name, classes, groups, splits if has_splits else None, paths, [*map(repr, found)])


def picture_names(path):
  """The names of the pictures in a folder, however deep, in order; of a file, its own.

  Raises:
    FileNotFoundError, PermissionError: it is not there, or cannot be read.
    ValueError: the folder holds none.
  """
  path = os.fspath(path)
  if os.path.isfile(path):
    return [os.path.basename(path)]
  found = []
  _walk(path, "", (), found)
  if not found:
    raise ValueError(f"{path!r} holds no pictures")
  return sorted(found)


def _split_and_class(folder, has_splits):
  if not has_splits:
    return "", folder
  split, _, label = folder.partition("/")
  return split, label


def _walk(path, relative, above, found):
  """Adds the relative paths of a folder's pictures; `above` are the folders that it is in, against links in a loop."""
  try:
    status = os.stat(path)
    if (status.st_dev, status.st_ino) in above:
      return
    with os.scandir(path) as listed:
      entries = [entry for entry in listed if not entry.name.startswith(".")]
  except OSError as error:
    raise type(error)(f"cannot read the folder {path!r}: {error.strerror}") from None
  for entry in entries:
    if _is_folder(entry):
      _walk(entry.path, f"{relative}{entry.name}/", (*above, (status.st_dev, status.st_ino)), found)
    elif is_picture_name(entry.name) and (entry.is_symlink() or entry.is_file()):
      found.append(relative + entry.name)


def _is_folder(entry):
  with contextlib.suppress(OSError):  # a link that leads back to itself
    return entry.is_dir()
  return False
