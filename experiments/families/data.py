"""Labeled images: the parts of a data set, and their description."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.families.image_flags import ImageData, kept_by, rotates, seen, split_name
from metajax.checks import counted
from metajax.data import ImageDataset, ImageTexts, UnreadableImages, load
from metajax.experiment.terminal import printable
from metajax.types import Preprocessing

LONGEST_SLUG = 100  # bytes


def load_part(
  flags: ImageData, part: str, preprocessing: Preprocessing | None = None, originals: bool = False
) -> ImageDataset:
  """Loads one part of the data: "train", "validation" or "test"."""
  return load_split(flags, f"{flags.split}/{part}" if flags.split else part, preprocessing, originals)


def load_split(
  flags: ImageData, split: str, preprocessing: Preprocessing | None = None, originals: bool = False
) -> ImageDataset:
  """Loads a split of the data by its full name, resized as published if `preprocessing` is given.

  Raises:
    ValueError, OSError: as `metajax.data.load`, or if flags contradict each other.
  """
  return load(
    flags.data,
    split,
    size=flags.size,
    preprocessing=preprocessing,
    download=flags.download,
    rotations=rotates(flags),
    originals=originals,
    **kept_by(flags),
  )


def load_parts(
  flags: ImageData,
  parts: Sequence[str] = ("train", "validation", "test"),
  load_one: Callable[[ImageData, str], ImageDataset] = load_part,
) -> dict[str, ImageDataset]:
  """Loads several parts.

  Raises:
    UnreadableImages: naming the unreadable user-supplied files of all parts together.
  """
  found, unreadable = {}, []
  for part in parts:
    try:
      found[part] = load_one(flags, part)
    except UnreadableImages as error:
      unreadable.append(error)
  if unreadable:
    raise UnreadableImages(
      [file for error in unreadable for file in error.files], unreadable[0].number, repr(flags.data)
    )
  return found


def tested_on(flags: ImageData) -> dict[str, Any]:
  """Entries on the data in the records of few-shot tests."""
  return {"data": slug(flags), "split": split_name(flags), "rotations": rotates(flags)}


def slug(flags: ImageData) -> str:
  """The name of the data, shortened to at most 100 bytes for use in file names."""
  path = os.path.expanduser(flags.data)
  name = os.path.basename(os.path.abspath(path)) if os.path.exists(path) else flags.data.replace("/", "_")
  return name.encode("utf-8", "replace")[:LONGEST_SLUG].decode("utf-8", "ignore")


def check_disjoint(flags: ImageData, **parts: ImageDataset):
  """Refuses parts that share a class, as test classes would have been seen in training, unless the flags ask for it.

  Raises:
    ValueError: naming the parts and a shared class.
  """
  if seen(flags):
    return
  for first, second in itertools.combinations(parts, 2):
    if shared := set(parts[first].classes) & set(parts[second].classes):
      given = f"{len(shared)} shared classes of {flags.data}, such as {min(shared)!r}"
      raise ValueError(f"expected no class of {first} in {second}, got {given}: leave out --split {flags.split}")


def describe(flags: ImageData, parts: Mapping[str, ImageDataset]):
  """Prints the size of the training, validation and test parts, and the images and classes left out."""
  if seen(flags):
    train, validation, test = (counted(len(parts[part].labels), "image") for part in ("train", "validation", "test"))
    of = f"{_size(parts['train'])}, all seen in training: "
  else:
    train, validation, test = (_size(parts[part]) for part in ("train", "validation", "test"))
    of = ""
  print(f"{printable(flags.data)}: {of}{train} for training, {validation} for validation, {test} for test")
  tell_left_out(flags, *parts.values())


def tell_left_out(flags: ImageData, *sources: ImageDataset | ImageTexts):
  """Prints the images and classes that were left out of the sources."""
  unreadable, small = left_out(sources)
  for what, names in (
    (f"{counted(len(unreadable), 'image')} that cannot be read", unreadable),
    (f"{counted(len(small), 'class', 'classes')} of fewer than {counted(flags.min_images_per_class, 'image')}", small),
  ):
    if names:
      print(f"left out {what}: {printable(', '.join(names[:5]))}" + ", ..." * (len(names) > 5))


def left_out(sources: Iterable[ImageDataset | ImageTexts]) -> tuple[list[str], list[str]]:
  """Returns the unreadable images and the classes with too few images that were left out."""
  of = lambda attribute: sorted({name for source in sources for name in getattr(source, attribute, ())})
  return of("unreadable"), of("small_classes")


def _size(source: ImageDataset) -> str:
  alphabets = len(set(source.superclasses) - {""})
  return f"{len(source.classes)} classes" + (f" of {alphabets} alphabets" if alphabets > 1 else "")
