"""Which labeled images a model was trained on: accuracy on them says nothing about new images."""

import filecmp
import os
from collections.abc import Sequence
from typing import Any

MOST_FILES = 50_000  # of the training data, among which copies are looked for


def trained_images(about: dict[str, Any], names: Sequence[str]) -> list[str]:
  """Returns the image files that lie in the data of a training, or are copies of files there.

  Args:
    about: Facts of an export, of which `data` is the path of the data, if they were files.
    names: Names of images, such as paths.
  """
  data = about.get("data")
  root = os.path.realpath(os.path.expanduser(data)) if isinstance(data, str) else ""
  if not os.path.isdir(root):
    return []
  files = {name: os.path.realpath(name) for name in names if os.path.isfile(name)}
  within = {name for name, path in files.items() if path.startswith(root + os.sep)}
  others = {name: path for name, path in files.items() if name not in within}
  of_size = _by_size(root, {os.path.getsize(path) for path in others.values()})
  copies = {
    name
    for name, path in others.items()
    if any(filecmp.cmp(path, there, shallow=False) for there in of_size.get(os.path.getsize(path), ()))
  }
  return [name for name in names if name in within or name in copies]


def overlap_warning(about: dict[str, Any], found: Sequence[str], number: int) -> str | None:
  """A warning of the `trained_images` among a number of labeled images; None if there are none."""
  if not found:
    return None
  return (
    f"{len(found)} of {number} support images are from the data of the training, {about['data']!r}: accuracy on "
    "images that a model was trained on says nothing about new ones; hold classes out (--test-classes) or take others"
  )


def _by_size(root: str, sizes: set[int]) -> dict[int, list[str]]:
  """The files of some sizes in a folder; of a very large folder, those met first."""
  found, seen = {}, 0
  for folder, _, names in os.walk(root) if sizes else ():
    for name in names:
      path = os.path.join(folder, name)
      seen += 1
      if os.path.isfile(path) and (size := os.path.getsize(path)) in sizes:
        found.setdefault(size, []).append(path)
    if seen > MOST_FILES:
      break
  return found
