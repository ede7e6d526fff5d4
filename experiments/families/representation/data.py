"""Data of pretraining experiments: unlabeled images for pretraining, and labeled images for probes."""

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from experiments.families import data as image_data
from experiments.families.data import ImageData, load_split, tell_left_out
from experiments.families.image_flags import is_distributed, seen
from experiments.families.mixing import mixed
from metajax import checks
from metajax.data import ImageDataset, Mixture, NoSuchSplit, Recordings, split_within_classes
from metajax.data.video.recordings import CLIPS
from metajax.experiment.evaluators.probes import Splits
from metajax.experiment.terminal import printable
from metajax.experiment.weighted import weights_of
from metajax.types import Preprocessing

Classes = Literal["auto", "same", "unseen"]
OF_UNSEEN = (0.5, 0.2, 0.3)  # fractions of each unseen class: probe training, validation, test
VALIDATION = 0.1  # fraction of the labeled images, if the classes are the same


class ProbeSplits(NamedTuple):
  """Parts of the data for pretraining and evaluation.

  Attributes:
    unlabeled: Images, whose labels are ignored, or recordings for pretraining.
    train, validation, test: Disjoint labeled images of the same classes, for probes.
    unseen: True if no labeled class occurs in `unlabeled`.
    episodes: Images for few-shot tasks, or None.
    asked: Held-out recordings for the pretext test, or None if it uses `test`.
    groups: Group of each example of `asked`, `[n]`, if examples of a group are not independent.
    mixed: Several sources for pretraining in place of `unlabeled`, the first of them, or None.
  """

  unlabeled: ImageDataset | Recordings
  train: ImageDataset
  validation: ImageDataset
  test: ImageDataset
  unseen: bool
  episodes: ImageDataset | None
  asked: Recordings | None = None
  groups: np.ndarray | None = None
  mixed: Mixture | None = None

  @property
  def images(self) -> ImageDataset:
    """The unlabeled images of a data set without recordings."""
    assert isinstance(self.unlabeled, ImageDataset)
    return self.unlabeled

  @property
  def splits(self) -> Splits:
    """The labeled images for probes."""
    return Splits(self.train, self.validation, self.test)


def load_mixed(
  flags: ImageData,
  mix: Sequence[str],
  classes: Classes,
  preprocessing: Preprocessing | None = None,
  originals: bool = False,
) -> ProbeSplits:
  """`load_parts`, and the further sources of a mixture: the official training split, or all images of a set without.

  Raises:
    ValueError, OSError: as `metajax.data.load`, and if sources cannot be mixed.
  """
  weights_of(flags.data, mix)  # before anything is loaded
  found = load_parts(flags, classes, preprocessing, originals)

  def load_one(other):
    for split in () if other.data in ("glyphs", "omniglot") else ("official/train", "official/all"):
      with contextlib.suppress(NoSuchSplit):
        return load_split(other, split, preprocessing, originals)
    return load_split(other, "train", preprocessing, originals)

  return found._replace(mixed=mixed(flags, mix, found.images, load_one)) if mix else found


def load_parts(
  flags: ImageData, classes: Classes, preprocessing: Preprocessing | None = None, originals: bool = False
) -> ProbeSplits:
  """Loads the parts of the data.

  With `classes` "same", the official training split serves for pretraining and for the probes, a tenth of it as
  validation, and the official test split for test. With "unseen", the probes use separate classes, whose images are
  divided into the three parts. "auto" is "same" if the official splits share their classes, otherwise "unseen". With
  flags that distribute the classes, "auto" is "unseen", or, if they train on all classes, probes use held-out images.
  Images are resized as published if `preprocessing` is given, and stay in their files with `originals`.

  Raises:
    ValueError, OSError: as `metajax.data.load`.
  """
  load_one = partial(image_data.load_part, preprocessing=preprocessing, originals=originals)
  if seen(flags):
    if classes != "auto":
      raise ValueError(f"expected --train-on-all without --classes, got {classes}")
    train, validation, test = image_data.load_parts(flags, load_one=load_one).values()
    return ProbeSplits(train, train, validation, test, False, test)
  if classes == "auto" and is_distributed(flags):
    classes = "unseen"
  own = None if classes == "unseen" else _own(flags, classes, preprocessing, originals)
  if own is None:
    unlabeled, test = image_data.load_parts(flags, ("train", "test"), load_one).values()
    probed, validation, asked = split_within_classes(test, OF_UNSEEN, seed=0)
    return ProbeSplits(unlabeled, probed, validation, asked, True, test)
  train, test = own
  labeled, validation = split_within_classes(train, (1 - VALIDATION, VALIDATION), seed=0)
  return ProbeSplits(train, labeled, validation, test, False, test)


def _own(
  flags: ImageData, classes: Classes, preprocessing: Preprocessing | None, originals: bool
) -> tuple[ImageDataset, ImageDataset] | None:
  """The official training and test splits; with `classes` "auto", None if their classes differ."""
  if classes == "auto" and flags.data in ("glyphs", "omniglot"):
    return None
  try:
    load_one = partial(load_split, preprocessing=preprocessing, originals=originals)
    train, test = image_data.load_parts(flags, ("official/train", "official/test"), load_one).values()
  except NoSuchSplit:
    if classes == "auto":
      return None
    raise
  if train.classes == test.classes:
    return train, test
  if classes == "auto":
    return None
  raise ValueError(f"expected --classes unseen for {flags.data}, got same: its official splits have different classes")


def counted(source: ImageDataset | Recordings) -> str:
  """Number of images or clips, in words."""
  return f"{len(source.images):,} {'clips' if source.images.ndim == CLIPS else 'images'}"


def describe(flags: ImageData, parts: ProbeSplits):
  """Prints the sizes of the parts, and the files and classes left out."""
  for part in (parts.unlabeled, parts.asked):
    if isinstance(part, Recordings) and part.unreadable:
      left = checks.counted(len(part.unreadable), "file")
      print(f"left out {left} that cannot be read: {printable('; '.join(part.unreadable))}")
  tell_left_out(
    flags, *{id(part): part for part in (parts.unlabeled, parts.test) if isinstance(part, ImageDataset)}.values()
  )
  kind = "unseen in pretraining" if parts.unseen else "the same as in pretraining"
  train, validation, test = map(counted, (parts.train, parts.validation, parts.test))
  print(
    f"{printable(flags.data)}: {counted(parts.unlabeled)} without labels for pretraining; {len(parts.test.classes)} "
    f"classes ({kind}): {train} for probes, {validation} for validation, {test} for test"
  )
