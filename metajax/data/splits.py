"""The classes and images in each part of a data set: "train", "validation" and "test" share no class."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from metajax import checks
from metajax.checks import counted
from metajax.data.class_split import BY_DEFAULT, ClassSplit, by_images, by_names, by_shares
from metajax.data.source import ImageDataset, check_source, select_rows

PARTS = ("train", "validation", "test")


class NoSuchSplit(ValueError):
  """A set has no such split, or none of the split's images has a label, so a caller may fall back to another split.

  A split that exists but cannot be read raises another error, so that no other data silently take its place.
  """


def check_split(name: str, split: str, own: Iterable[str]):
  """Raises NoSuchSplit unless `split` is one of PARTS or "official/..." of one of the set's own splits."""
  known = (*PARTS, *(f"official/{part}" for part in own))
  if split not in known:
    raise NoSuchSplit(f"unknown split {split!r} of {name}: expected one of {', '.join(known)}")


def choose(
  name: str,
  split: str,
  labels: np.ndarray,
  own: Mapping[str, np.ndarray],
  seed: int,
  least: int = 1,
  class_split: ClassSplit = BY_DEFAULT,
  names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Chooses the rows and classes of one part of a set.

  Args:
    name: name of the set, for messages.
    split: one of PARTS, or "official/..." with one of the set's official splits.
    labels: class of each image, `[n]`; -1 for none.
    own: official splits, `{name: rows}`.
    seed: seed of the distribution of classes.
    least: smallest number of images of a class that is kept, counted over the images that are distributed or, for
      "official/...", in that split.
    class_split: custom distribution of the classes, or of the images of each class; official splits are then ignored.
    names: name of each class, for a custom distribution.

  Returns:
    The rows, their classes in ascending order, and the classes that are dropped as too small.

  Raises:
    ValueError: if there are too few classes.
    NoSuchSplit: if no image has a label.
  """
  if split.startswith("official/"):
    used = [split.removeprefix("official/")]
  else:
    used = [part for part in PARTS if part in own] or list(own)
  rows = np.concatenate([own[part] for part in used])
  classes, counts = np.unique(labels[rows][labels[rows] >= 0], return_counts=True)
  small, large = classes[counts < least], classes[counts >= least]
  if len(small):
    name = f"{name}, of whose classes {len(small)} have fewer than {least} images and are left out,"
  present = {part: np.intersect1d(labels[own[part]], large) for part in used}
  if class_split.all_classes:
    rows = rows[np.isin(labels[rows], large)]
    return by_images(name, rows, labels[rows], names, seed)[split], large, small
  if class_split.given:
    shares, test = class_split.shares, class_split.test
    dealt = by_shares(name, large, shares, seed) if shares else by_names(name, large, names, test, seed)
    chosen = dealt[split]
    if not len(chosen):
      raise ValueError(f"expected a share above 0 for {split} in split_classes, got {list(shares)}")
  else:
    chosen = (
      present[used[0]] if split.startswith("official/") else disjoint_classes(name, present, seed, bool(names))[split]
    )
  rows = rows[np.isin(labels[rows], chosen)]
  if not len(rows):
    raise NoSuchSplit(f"split {split!r} of {name} holds no labeled images")
  return rows, chosen, small


def disjoint_classes(
  name: str, present: Mapping[str, np.ndarray], seed: int, advise: bool = False
) -> Mapping[str, np.ndarray]:
  """The classes of "train", "validation" and "test", given those in each of the set's official splits."""
  every, times = np.unique(np.concatenate([*present.values(), []]).astype(int), return_counts=True)
  shuffle = np.random.RandomState(seed).permutation  # its stream is frozen by NumPy, unlike the newer generators'
  # A test split without labels (all -1) has no classes.
  if all(len(present.get(part, ())) for part in ("train", "test")) and times.max() == 1:
    if "validation" in present:
      return present
    train = shuffle(present["train"])
    cut = max(5, len(train) // 10)
    if len(train) < 2 * cut:
      there = counted(len(train), "training class", "training classes")
      advice = "; split_classes (--split-classes) distributes all classes anew" * advise
      raise ValueError(f"{name} has {there}: expected 10 or more, to keep 5 for validation{advice}")
    return {"train": np.sort(train[cut:]), "validation": np.sort(train[:cut]), "test": present["test"]}
  if len(every) < 6:
    there = counted(len(every), "class", "classes")
    advice = "; train_on_all=True (--train-on-all) trains on all of them" * advise
    raise ValueError(f"{name} has {there}: expected 6 or more, for three parts that share none{advice}")
  cut = max(2, len(every) // 5)
  validation, test, train = np.split(shuffle(every), [cut, 2 * cut])
  return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}


def split_within_classes(source: ImageDataset, shares: Sequence[float], *, seed: int = 0) -> list[ImageDataset]:
  """Splits a source at random into disjoint parts, each with a share of the images of every class.

  Args:
    source: an `ImageDataset`.
    shares: share of each part, above 0, with a sum of at most 1. Per class it is rounded, to at least one image.
    seed: any integer of at least 0.

  Returns:
    An `ImageDataset` for each share, with images in the order of the source.

  Raises:
    ValueError: if the shares are out of range, or a class has too few images.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 2)
    >>> [part.labels.shape for part in data.split_within_classes(source, [0.8, 0.2])]
    [(16,), (4,)]
  """
  check_source(source)
  checks.count("seed", seed, 0)
  for share in shares:
    checks.in_range("each of the shares", share, 0, 1)
  if not len(shares) or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
    raise ValueError(f"expected shares above 0 of a sum of at most 1, got {list(shares)}")
  random = np.random.default_rng(seed)
  dealt = [[] for _ in shares]
  for label, name in enumerate(source.classes):
    rows = random.permutation(np.flatnonzero(source.labels == label))
    if not len(rows):
      continue
    ends = np.rint(np.cumsum(shares) * len(rows)).astype(int)
    ends = np.minimum(ends, len(rows) - np.arange(len(shares))[::-1])  # leaves one image for each later part
    for i in range(len(ends)):  # at least one image per part; later ends move along
      ends[i:] = np.maximum(ends[i:], (ends[i - 1] if i else 0) + 1)
    if ends[-1] > len(rows):
      raise ValueError(f"expected at least {len(shares)} images of every class, got {len(rows)} of {name!r}")
    for part, chosen in zip(dealt, np.split(rows, ends)[: len(shares)], strict=True):
      part.append(chosen)
  return [select_rows(source, np.sort(np.concatenate(rows))) for rows in dealt]
