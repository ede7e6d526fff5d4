"""Images of classes: the flags that say which, and the parts that they name."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from metajax.checks import counted
from metajax.data import ImageDataset, UnreadableImages, load
from metajax.experiment.bounds import Bounds, Count, DataSource
from metajax.experiment.former_flags import also
from metajax.experiment.terminal import printable

LONGEST_SLUG = 100  # bytes


class ImageData(NamedTuple):
  """Which images."""

  data: DataSource = "glyphs"
  """glyphs, omniglot, any TFDS classification set, or images of one's own: a folder, a .csv or an .npz file."""
  split: str = ""
  """A named split of the data's classes: lake, vinyals or finn for omniglot."""
  download: bool = False
  """Let TFDS download data that is not there."""
  skip_unreadable: Annotated[bool, *also("--skip-broken")] = False
  """Leave out files of one's own that cannot be read, rather than stop."""
  min_images_per_class: Count = 1
  """Leave out classes that have fewer images."""
  size: Annotated[int, Bounds(8, 4096)] = 28
  """Images are brought to size x size pixels."""


def load_part(flags: ImageData, part: str) -> ImageDataset:
  """One part of the data: "train", "validation" or "test"."""
  return load_split(flags, f"{flags.split}/{part}" if flags.split else part)


def load_split(flags: ImageData, split: str) -> ImageDataset:
  """A split of the data, by its whole name."""
  return load(
    flags.data,
    split,
    size=flags.size,
    download=flags.download,
    rotations=rotates(flags),
    skip_unreadable=flags.skip_unreadable,
    min_images_per_class=flags.min_images_per_class,
  )


def load_parts(
  flags: ImageData,
  parts: Sequence[str] = ("train", "validation", "test"),
  load_one: Callable[[ImageData, str], ImageDataset] = load_part,
) -> dict[str, ImageDataset]:
  """Several parts; where files of one's own cannot be read, those of all parts are named at once."""
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


def rotates(flags: ImageData) -> bool:
  """Whether each quarter turn of a class is a class of its own, as is the custom on Omniglot."""
  return flags.data == "omniglot"


def split_name(flags: ImageData) -> str:
  """What the records call the part that was tested on."""
  named = flags.split or ("lake" if flags.data == "omniglot" else "")
  return f"{named}/test" if named else "test"


def tested_on(flags: ImageData) -> dict[str, Any]:
  """What the records of few-shot tests say of the data."""
  return {"data": slug(flags), "split": split_name(flags), "rotations": rotates(flags)}


def slug(flags: ImageData) -> str:
  """The data's name as a part of a file's name, of at most 100 bytes."""
  path = os.path.expanduser(flags.data)
  name = os.path.basename(os.path.abspath(path)) if os.path.exists(path) else flags.data.replace("/", "_")
  return name.encode("utf-8", "replace")[:LONGEST_SLUG].decode("utf-8", "ignore")


def check_disjoint(flags: ImageData, **parts: ImageDataset):
  """Refuses parts that share a class: what is tested would have been seen."""
  for first, second in itertools.combinations(parts, 2):
    if shared := set(parts[first].classes) & set(parts[second].classes):
      given = f"{len(shared)} of {flags.data} in both, such as {min(shared)!r}"
      raise ValueError(f"expected no class of {first} in {second}, got {given}: leave out --split {flags.split}")


def describe(flags: ImageData, parts: Mapping[str, ImageDataset]):
  """Prints what there is to train, validate and test on, and what could not be read."""
  train, validation, test = (_size(parts[part]) for part in ("train", "validation", "test"))
  print(f"{printable(flags.data)}: {train} to train on, {validation} to validate, {test} to test")
  tell_left_out(flags, *parts.values())


def tell_left_out(flags: ImageData, *sources: ImageDataset):
  """Prints what was left out of some sources."""
  unreadable, small = left_out(sources)
  for what, names in (
    (f"{counted(len(unreadable), 'image')} that cannot be read", unreadable),
    (f"{counted(len(small), 'class', 'classes')} of fewer than {counted(flags.min_images_per_class, 'image')}", small),
  ):
    if names:
      print(f"left out {what}: {printable(', '.join(names[:5]))}" + ", ..." * (len(names) > 5))


def left_out(sources: Iterable[ImageDataset]) -> tuple[list[str], list[str]]:
  """The images that were left out because they cannot be read, and the classes because they have too few."""
  of = lambda attribute: sorted({name for source in sources for name in getattr(source, attribute)})
  return of("unreadable"), of("small_classes")


def _size(source: ImageDataset) -> str:
  alphabets = len(set(source.superclasses) - {""})
  return f"{len(source.classes)} classes" + (f" of {alphabets} alphabets" if alphabets > 1 else "")
