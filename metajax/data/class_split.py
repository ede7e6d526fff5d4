"""A custom distribution of classes over training, validation and test: by shares, by names, or all classes in each."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.checks import counted, describe

LEAST = 2  # classes of a part, or images of a class in a part: fewer make no task


class ClassSplit(NamedTuple):
  """A custom distribution of classes; at most one of its entries is set.

  Attributes:
    shares: shares of the classes for training, validation and test; () for the default.
    test: names of the test classes; () for the default.
    all_classes: whether every part has all classes, and images of its own.
  """

  shares: tuple[float, ...] = ()
  test: tuple[str, ...] = ()
  all_classes: bool = False

  @property
  def given(self) -> str:
    """The argument and the flag that was given; "" for the default."""
    names = ("split_classes", "test_classes", "train_on_all")
    return next((f"{name} (--{name.replace('_', '-')})" for name, it in zip(names, self, strict=True) if it), "")


BY_DEFAULT = ClassSplit()


def check_class_split(split: str, split_classes: Any, test_classes: Any, train_on_all: bool) -> ClassSplit:
  """The `ClassSplit` of the arguments of `load`.

  Raises:
    ValueError: if shares do not add up to 1, names are not unique texts, more than one argument is given, or `split` is
      an official split.
  """
  shares = split_classes if isinstance(split_classes, Sequence | np.ndarray) else None
  numbers = shares is not None and not isinstance(shares, str) and all(
    isinstance(share, float | int | np.number) and not isinstance(share, bool) and 0 <= share <= 1 for share in shares
  )  # fmt: skip
  if not numbers or (len(shares) and (len(shares) != 3 or abs(sum(shares) - 1) > 1e-6)):
    given = list(split_classes) if numbers else describe(split_classes)
    raise ValueError(f"expected split_classes to be three shares from 0 to 1 with a sum of 1, got {given}")
  texts = not isinstance(test_classes, str) and isinstance(test_classes, Sequence)
  if not texts or not all(isinstance(name, str) for name in test_classes):
    raise ValueError(f"expected test_classes to be names of classes, got {describe(test_classes)}")
  if len(set(test_classes)) < len(test_classes):
    twice = next(name for name in test_classes if list(test_classes).count(name) > 1)
    raise ValueError(f"expected unique test_classes, got {twice!r} twice")
  found = ClassSplit(tuple(float(share) for share in shares), tuple(test_classes), train_on_all)
  if sum(map(bool, found)) > 1:
    raise ValueError("expected one of split_classes, test_classes and train_on_all, got several")
  if found.given and split.startswith("official/"):
    raise ValueError(f"expected no {found.given} with an official split, got split {split!r}")
  return found


def by_shares(name: str, classes: np.ndarray, shares: Sequence[float], seed: int) -> Mapping[str, np.ndarray]:
  """Distributes classes by shares, each rounded to a whole number, and to at least two classes unless it is 0.

  Raises:
    ValueError: if there are too few classes.
  """
  used = [share > 0 for share in shares]
  if len(classes) < LEAST * sum(used):
    raise ValueError(
      f"{name} has {counted(len(classes), 'class', 'classes')}: expected {LEAST * sum(used)} or more, "
      f"{LEAST} for each share above 0 of split_classes (--split-classes)"
    )
  sizes = np.rint(np.multiply(shares, len(classes))).astype(int)
  sizes[np.argmax(used)] += len(classes) - sizes.sum()  # so that each is within one class of its share
  sizes = np.maximum(sizes, np.multiply(LEAST, used))
  while sizes.sum() > len(classes):  # the largest part gives to those that were raised to the least number
    sizes[np.argmax(sizes)] -= 1
  return _dealt(np.random.RandomState(seed).permutation(classes), sizes[1], sizes[2])


def by_names(
  name: str, classes: np.ndarray, names: Sequence[str], test: Sequence[str], seed: int
) -> Mapping[str, np.ndarray]:
  """The named classes as test classes; a fifth of the others, at least two, for validation, the rest for training.

  Args:
    name: name of the set, for messages.
    classes: the classes that are distributed.
    names: name of every class.
    test: names of the test classes.
    seed: seed of the distribution.

  Raises:
    ValueError: if a name is unknown (with the nearest one), or there are too few classes.
  """
  known = {names[c]: c for c in classes}
  for one in test:
    if one not in known and one in names:
      raise ValueError(f"{name} has too few images of {one!r}, named in test_classes (--test-classes)")
    if one not in known:
      near = difflib.get_close_matches(one, known, n=3, cutoff=0.5)
      advice = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {', '.join(sorted(known)[:5])}, ..."
      )
      raise ValueError(f"{name} has no class {one!r}, named in test_classes (--test-classes): {advice}")
  chosen = np.sort([known[one] for one in test])
  others = np.setdiff1d(classes, chosen)
  if len(chosen) < LEAST or len(others) < 2 * LEAST:
    raise ValueError(
      f"expected {LEAST} or more test_classes (--test-classes) of {name}, and {2 * LEAST} or more other classes, got "
      f"{len(chosen)} and {len(others)}"
    )
  held = max(LEAST, len(others) // 5)
  dealt = _dealt(np.random.RandomState(seed).permutation(others), held, 0)
  return {**dealt, "test": chosen}


def by_images(
  name: str, rows: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int
) -> Mapping[str, np.ndarray]:
  """Distributes the images of each class: a quarter, at least two, for validation, as many for test, the rest to train.

  Args:
    name: name of the set, for messages.
    rows: rows of the images.
    labels: class of each row.
    names: name of every class.
    seed: seed of the distribution.

  Returns:
    The rows of each part, in ascending order.

  Raises:
    ValueError: if there is one class, or a class has fewer than six images.
  """
  random, least = np.random.RandomState(seed), 3 * LEAST
  classes, counts = np.unique(labels, return_counts=True)
  if len(classes) < LEAST:
    raise ValueError(f"{name} has {counted(len(classes), 'class', 'classes')}: expected {LEAST} or more")
  if counts.min() < least:
    raise ValueError(
      f"expected {least} or more images of each class of {name}, to hold some out with train_on_all (--train-on-all), "
      f"got {counts.min()} of {names[classes[np.argmin(counts)]]!r}; min_images_per_class={least} "
      f"(--min-images-per-class {least}) leaves out smaller classes"
    )
  parts = {"train": [], "validation": [], "test": []}
  for of_class in np.split(rows[np.argsort(labels, kind="stable")], np.cumsum(counts)[:-1]):
    held = max(LEAST, len(of_class) // 4)
    for part, some in _dealt(random.permutation(of_class), held, held).items():
      parts[part].append(some)
  return {part: np.sort(np.concatenate(some)) for part, some in parts.items()}


def _dealt(shuffled, validation, test):
  """The parts of shuffled numbers, in ascending order."""
  validation, test, train = np.split(shuffled, [validation, validation + test])
  return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}
