"""The data of pretraining experiments: images without labels, and labeled ones to find out what was learned."""

from typing import Literal, NamedTuple

import numpy as np

from experiments.families import data as image_data
from experiments.families.data import ImageData, load_split, tell_left_out
from metajax import checks
from metajax.data import ImageDataset, NoSuchSplit, Recordings, split_within_classes
from metajax.data.video.recordings import CLIPS
from metajax.experiment.evaluators.probes import Splits
from metajax.experiment.terminal import printable

Classes = Literal["auto", "same", "unseen"]
OF_UNSEEN = (0.5, 0.2, 0.3)  # of each class's images: to probe with, to choose the probe by, to test on
VALIDATION = 0.1  # of the labeled images, where classes are the same


class ProbeSplits(NamedTuple):
  """What there is to learn from and to be judged by.

  Attributes:
    unlabeled: to pretrain on, images whose labels are not looked at, or recordings.
    train, validation, test: labeled, of the same classes; no image of "validation" or "test" is in another of them.
    unseen: whether those classes are none of `unlabeled`.
    episodes: to draw few-shot tasks from, if there are some.
    asked: recordings that a pretext task is asked about, where images are not.
    groups: of `asked`, `[n]`, where those of one are not independent.
  """

  unlabeled: ImageDataset | Recordings
  train: ImageDataset
  validation: ImageDataset
  test: ImageDataset
  unseen: bool
  episodes: ImageDataset | None
  asked: Recordings | None = None
  groups: np.ndarray | None = None

  @property
  def images(self) -> ImageDataset:
    """What is pretrained on, where that is images."""
    assert isinstance(self.unlabeled, ImageDataset)
    return self.unlabeled

  @property
  def splits(self) -> Splits:
    """What frozen features are probed with."""
    return Splits(self.train, self.validation, self.test)


def load_parts(flags: ImageData, classes: Classes) -> ProbeSplits:
  """The parts of the data.

  With `classes` "same", the set's own training split is pretrained on, and probed on with a tenth apart; its own test
  split is tested on. With "unseen", classes apart from pretraining are, and their images dealt out. "auto" is "same"
  where the own splits share their classes.

  Raises:
    ValueError, OSError: as `metajax.data.load`.
  """
  own = None if classes == "unseen" else _own(flags, classes)
  if own is None:
    unlabeled, test = image_data.load_parts(flags, ("train", "test")).values()
    probed, validation, asked = split_within_classes(test, OF_UNSEEN, seed=0)
    return ProbeSplits(unlabeled, probed, validation, asked, True, test)
  train, test = own
  labeled, validation = split_within_classes(train, (1 - VALIDATION, VALIDATION), seed=0)
  return ProbeSplits(train, labeled, validation, test, False, test)


def _own(flags: ImageData, classes: Classes) -> tuple[ImageDataset, ImageDataset] | None:
  """The set's own training and test split; with `classes` "auto", None where they are not of the same classes."""
  if classes == "auto" and flags.data in ("glyphs", "omniglot"):
    return None
  try:
    train, test = image_data.load_parts(flags, ("official/train", "official/test"), load_split).values()
  except NoSuchSplit:
    if classes == "auto":
      return None
    raise
  if train.classes == test.classes:
    return train, test
  if classes == "auto":
    return None
  raise ValueError(f"expected --classes unseen of {flags.data}: its own splits have other classes")


def counted(source: ImageDataset | Recordings) -> str:
  """How many there are of what."""
  return f"{len(source.images):,} {'clips' if source.images.ndim == CLIPS else 'images'}"


def describe(flags: ImageData, parts: ProbeSplits):
  """Prints what there is."""
  for part in (parts.unlabeled, parts.asked):
    if isinstance(part, Recordings) and part.unreadable:
      left = checks.counted(len(part.unreadable), "file")
      print(f"left out {left} that cannot be read: {printable('; '.join(part.unreadable))}")
  tell_left_out(
    flags, *{id(part): part for part in (parts.unlabeled, parts.test) if isinstance(part, ImageDataset)}.values()
  )
  kind = "none of them pretrained on" if parts.unseen else "the same"
  train, validation, test = map(counted, (parts.train, parts.validation, parts.test))
  print(
    f"{printable(flags.data)}: {counted(parts.unlabeled)} without labels to pretrain on; {len(parts.test.classes)} "
    f"classes, {kind}, with {train} to probe with, {validation} to choose by, {test} to test on"
  )
