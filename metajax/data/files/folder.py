"""A folder of images as a table: every subfolder that holds images is a class."""

import contextlib
import errno
import os
import warnings
from typing import NamedTuple

from metajax.data.files.image_file import EXTENSIONS, is_image_name
from metajax.data.files.table import SPLITS, Table, make_table
from metajax.paths import AnyPath, files_in, is_url, place, store

# Endings of photos that Pillow does not read by itself; files with any other ending are no photos.
_PHOTOS = {".heic", ".heif", ".jxl", ".psd", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
_PHOTOS -= EXTENSIONS


def read_folder(path: str) -> Table:
  """The `Table` of a folder, sorted by the images' relative paths.

  A class is named after the folder of its images, relative to `path`, and its superclass after the parent folder. If
  the folders in `path` are "train" and "test", and optionally "validation" or "val", they are official splits and
  classes are named relative to them. Hidden files and files without an image extension are ignored; links are followed.

  Raises:
    FileNotFoundError, NotADirectoryError, PermissionError: if a folder cannot be read.
    ValueError: if there are no images, images without a class, fewer than two classes, or links by which an image
      occurs twice, possibly under two labels.
  """
  name, walk = repr(path), _walk(path)
  found = walk.found
  if not found:
    raise ValueError(
      f"{name} holds no images: expected folders of them, such as class/1.png or alphabet/character/1.jpg"
    )
  _check_links(path, walk)
  tops = {relative.split("/")[0] for relative in found if "/" in relative}
  has_splits = {"train", "test"} <= tops <= set(SPLITS)
  classes, superclasses, splits, last = [], [], [], None
  for relative in found:
    folder, _, file = relative.rpartition("/")
    if folder != last:
      last, split, label = folder, *_split_and_class(folder, has_splits)
    if not label:
      place = f"{path}/{split}".removesuffix("/")
      raise ValueError(f"the image {file!r} lies in {place!r} itself: expected every image in a folder of its class")
    classes.append(label)
    superclasses.append(label.rpartition("/")[0])
    splits.append(SPLITS[split] if has_splits else "")
  paths = [os.path.join(path, relative) for relative in found]
  return make_table(name, classes, superclasses, splits if has_splits else None, paths, [*map(repr, found)])


def image_names(path: AnyPath) -> list[str]:
  """The sorted relative paths of all images in a folder, recursively; for a file, its name.

  Raises:
    FileNotFoundError, PermissionError: if the path is missing or cannot be read.
    ValueError: if the folder holds no images.

  Warns:
    UserWarning: if the folder holds photos of a format that is not read.
  """
  path = os.fspath(path)
  if os.path.isfile(path):
    return [os.path.basename(path)]
  found = _walk(path).found
  if not found:
    raise ValueError(f"{path!r} holds no images")
  return found


def _split_and_class(folder, has_splits):
  if not has_splits:
    return "", folder
  split, _, label = folder.partition("/")
  return split, label


class _Walk(NamedTuple):
  """The contents of a folder, by relative paths.

  Attributes:
    found: sorted images.
    folders: paths of each folder, by device and inode; several if links lead to it.
    links: images that are links.
    unread: photos of a format that is not read.
  """

  found: list[str]
  folders: dict[tuple[int, int], list[str]]
  links: set[str]
  unread: list[str]


def _walk(path):
  walk = _in_bucket(path) if is_url(path) else _on_disk(path)
  walk.found.sort()
  if walk.unread:
    number, such = len(walk.unread), min(walk.unread)
    said = f"{path!r} holds {number:,} photo{'s' * (number > 1)} of a format that is not read, such as {such!r}"
    if not walk.found:
      raise ValueError(f"{said}: convert them to JPEG or PNG")
    warnings.warn(f"{said}: they are left out; convert them to JPEG or PNG", stacklevel=3)
  return walk


def _in_bucket(path):
  walk, folder = _Walk([], {}, set(), []), place("the data", path)
  with store(folder):
    if not folder.exists():  # which raises where the bucket does not answer
      raise FileNotFoundError(errno.ENOENT, "no such folder in the bucket", path)
  for file in files_in(folder):
    relative = file.relative_to(folder).as_posix()
    if not any(name.startswith(".") for name in relative.split("/")):
      _sort_in(walk, relative)
  return walk


def _sort_in(walk, relative):
  """Whether a file is an image, after sorting it in."""
  if is_image_name(relative):
    walk.found.append(relative)
    return True
  if os.path.splitext(relative)[1].lower() in _PHOTOS:
    walk.unread.append(relative)
  return False


def _on_disk(path):
  walk = _Walk([], {}, set(), [])
  waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
  while waiting:
    relative, above = waiting.pop()  # the folder, and its ancestors, to detect loops of links
    folder = os.path.join(path, relative).rstrip("/") or "/"
    try:
      status = os.stat(folder)
      number = (status.st_dev, status.st_ino)
      if number in above:
        continue
      with os.scandir(folder) as listed:
        entries = [entry for entry in listed if not entry.name.startswith(".")]
    except OSError as error:
      raise type(error)(f"cannot read the folder {folder!r}: {error.strerror}") from None
    walk.folders.setdefault(number, []).append(relative)
    for entry in entries:
      if _is_folder(entry):
        waiting.append((f"{relative}{entry.name}/", (*above, number)))
      elif _sort_in(walk, relative + entry.name) and entry.is_symlink():
        walk.links.add(relative + entry.name)
  return walk


def _check_links(path, walk):
  """Raises if an image occurs twice by links; copies and hard links are not detected."""
  for paths in walk.folders.values():
    first, *others = sorted(paths)
    holds = next((file for file in walk.found if file.startswith(first)), None) if others else None
    if holds:
      _refuse_twice(path, holds, others[0] + holds.removeprefix(first))
  seen = {}
  for relative in walk.found if walk.links else ():
    with contextlib.suppress(OSError):  # a broken link
      status = os.stat(os.path.join(path, relative))
      first = seen.setdefault((status.st_dev, status.st_ino), relative)
      if first != relative and {first, relative} & walk.links:
        _refuse_twice(path, first, relative)


def _refuse_twice(path, first, second):
  raise ValueError(
    f"{path!r} has one image twice, by a link: {first!r} and {second!r}; expected each once, or it may be trained "
    "and tested on"
  )


def _is_folder(entry):
  with contextlib.suppress(OSError):  # a link that leads back to itself
    return entry.is_dir()
  return False
