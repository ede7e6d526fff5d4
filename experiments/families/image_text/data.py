"""Data of CLIP experiments: images with captions for training, and held-out images for transfer tests."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.families import data as image_data
from experiments.families.data import ImageData
from experiments.families.image_flags import refuse_distribution
from experiments.families.mixing import mixed
from experiments.families.representation.data import OF_UNSEEN, ProbeSplits
from metajax.data import (
  ImageDataset,
  ImageTexts,
  Mixture,
  NoSuchSplit,
  as_image_dataset,
  load_captioned,
  select_classes,
  select_rows,
  split_within_classes,
)
from metajax.experiment.terminal import printable
from metajax.experiment.weighted import weights_of
from metajax.types import Preprocessing

HELD_OUT = 200  # characters with a mark, at most a fifth of all
FAMILY = "DejaVu Serif"  # the held-out typefaces
CATEGORIES = {  # descriptions of the emoji categories
  "Activities": "a sport, a game or a celebration",
  "Animals & Nature": "an animal, a plant or a flower",
  "Component": "a skin tone or a hair style",
  "Flags": "the flag of a country",
  "Food & Drink": "something to eat or to drink",
  "Objects": "a tool, a piece of clothing or a thing of the household",
  "People & Body": "a person at work, a family, or a part of the body",
  "Smileys & Emotion": "a smiling, sad or angry face, or a heart",
  "Symbols": "a sign, an arrow or a symbol",
  "Travel & Places": "a vehicle, a building, a place or the weather",
}


class Test(NamedTuple):
  """A test on held-out images.

  Attributes:
    name: Name of the test.
    source: Images of the test.
    kind: "names": zero-shot classification by class name; "groups": zero-shot classification of the class's group by a
      description; "captions": retrieval of images by captions and of captions by images.
  """

  name: str
  source: ImageDataset
  kind: Literal["names", "groups", "captions"]


class Data(NamedTuple):
  """Training data and tests.

  Attributes:
    train: Images with captions.
    tests: Tests; the first one is also the validation curve.
    probes: Labeled images of other classes for probes and few-shot tasks of the image tower, or None.
    mixed: Several sources to train on in place of `train`, the first of them, or None.
  """

  train: ImageDataset | ImageTexts
  tests: tuple[Test, ...]
  probes: ProbeSplits | None
  mixed: Mixture | None = None


def load_data(flags: ImageData, permuted: bool, seed: int, originals: bool = False, mix: Sequence[str] = ()) -> Data:
  """Loads the training data and the tests.

  Args:
    flags: Flags that select the images.
    permuted: Assign each class the captions of another class.
    seed: Random seed of that permutation.
    originals: Keep the images in their files, for crops, and test on their centers.
    mix: Values of `--mix`.

  Raises:
    ValueError, OSError: as `metajax.data.load_captioned`.
  """
  refuse_distribution(flags, "captioned images")
  weights_of(flags.data, mix)  # before anything is loaded
  if permuted and mix:
    raise ValueError("expected no --permuted with a mixture, whose sources keep their captions")
  if originals and flags.data == "glyphs":
    raise ValueError("expected --data of image files with --crop-from original, got glyphs")
  found = _glyphs(flags) if flags.data == "glyphs" else _captioned(flags, originals)
  if not permuted:
    train = lambda other: _loaded(other, originals)[0]
    return found._replace(mixed=mixed(flags, mix, found.train, train)) if mix else found
  if isinstance(found.train, ImageTexts):
    raise ValueError(f"expected no --permuted with shards, whose captions are read on access, got {flags.data!r}")
  order = np.random.default_rng(seed).permutation(len(found.train.classes))
  return found._replace(train=found.train._replace(captions=tuple(found.train.captions[i] for i in order)))


def held_out(flags: ImageData) -> ImageDataset:
  """All images of the classes whose names a run was not trained on; of other data than glyphs, the test images.

  Raises:
    ValueError, OSError: as `load_data`.
  """
  if flags.data != "glyphs":
    return _captioned(flags).tests[0].source
  characters = image_data.load_part(flags, "train")
  held = held_out_combinations([names[0] for names in characters.captions])
  return _present(select_rows(characters, np.flatnonzero(np.isin(characters.labels, held))))


def describe(flags: ImageData, found: Data, permuted: bool):
  """Prints the sizes of the training data and of the tests."""

  def count(source):
    if isinstance(source, ImageTexts):
      return f"{len(source.images):,} images with a caption each"
    return f"{len(source.labels):,} images of {len(source.classes):,} classes"

  tests = "; ".join(f"{test.name}, {count(test.source)}" for test in found.tests)
  others = ", with permuted captions" * permuted
  print(f"{printable(flags.data)}: {count(found.train)} for training{others}; held out: {tests}")
  image_data.tell_left_out(flags, found.train, *(test.source for test in found.tests))


def held_out_combinations(names: Sequence[str], most: int = HELD_OUT, seed: int = 0) -> list[int]:
  """Indices of held-out names "CHARACTER WITH MARK", whose character and mark each remain in another name."""
  parts = {i: name.split(" WITH ") for i, name in enumerate(names) if name.count(" WITH ") == 1}
  characters, marks = {}, {}
  for i, name in enumerate(names):
    characters.setdefault(name.split(" WITH ")[0], set()).add(i)
  for i, (_, mark) in parts.items():
    marks.setdefault(mark, set()).add(i)
  chosen = []
  for i in np.random.default_rng(seed).permutation(sorted(parts)).tolist():
    character, mark = parts[i]
    if len(chosen) < min(most, len(parts) // 5) and len(characters[character]) > 1 and len(marks[mark]) > 1:
      chosen.append(i)
      characters[character].remove(i)
      marks[mark].remove(i)
  return sorted(chosen)


def _glyphs(flags) -> Data:
  characters = image_data.load_part(flags, "train")
  held = held_out_combinations([names[0] for names in characters.captions])
  of_held, of_family = np.isin(characters.labels, held), np.array(characters.styles) == FAMILY
  part = lambda where: _present(select_rows(characters, np.flatnonzero(where)))
  other = image_data.load_part(flags, "test")
  probes = ProbeSplits(characters, *split_within_classes(other, OF_UNSEEN, seed=0), unseen=True, episodes=other)
  tests = (
    Test("unseen combinations", part(of_held & ~of_family), "names"),
    Test(f"unseen combinations in {FAMILY}", part(of_held & of_family), "names"),
    Test(f"characters in {FAMILY}", part(~of_held & of_family), "names"),
  )
  return Data(part(~of_held & ~of_family), tests, probes)


def center_of(size: int) -> Preprocessing:
  """The test images of open_clip: the shorter side is resized to `size`, and the center is cropped."""
  return Preprocessing(size, "shortest", interpolation="bicubic")


def _loaded(flags, originals):
  """The training images, the part that serves for tests, and the function that loads a part."""
  center = {"preprocessing": center_of(flags.size), "originals": True}
  how: dict[str, Any] = center if originals else {"size": flags.size}
  load = lambda part, skip=flags.skip_unreadable: load_captioned(
    flags.data, part, download=flags.download, seed=0, skip_unreadable=skip, **how
  )
  try:
    return load("official/train"), "official/validation", load
  except NoSuchSplit:
    return load("train"), "test", load


def _captioned(flags, originals=False) -> Data:
  train, part, load = _loaded(flags, originals)
  try:
    test, name = load(part), part.removeprefix("official/")
  except NoSuchSplit:
    train, test, name = load("train"), load("test"), "test"
    part = name
  if isinstance(test, ImageTexts):  # read once in full: a pair in another's place would be scored twice
    whole = load(part, True)
    test = as_image_dataset(whole) if isinstance(whole, ImageTexts) else whole
  groups = len(set(test.superclasses)) > 1
  return Data(train, (Test(name, test, "captions"), *([Test(name, test, "groups")] if groups else [])), None)


def _present(source: ImageDataset) -> ImageDataset:
  """The source without classes that have no image."""
  return select_classes(source, np.unique(source.labels))
