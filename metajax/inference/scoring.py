"""Cross-validation on a few labeled images: accuracy with an interval, confusions, and paired differences of models."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from metajax import checks
from metajax.evaluate import Score, mean_and_ci, paired_difference
from metajax.inference.load import ImageModel
from metajax.inference.support import Support
from metajax.predictors import centroid_logits

LEAVE_ONE_OUT = 200  # most images for which each is left out on its own

# As one program for each shape: op by op, each shape of a division would compile a dozen.
_centroid_logits = jax.jit(centroid_logits)

# (kept rows, their one-hot labels, held-out rows) -> logits [held out, classes]
Classify = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Trial(NamedTuple):
  """Rows of the images that serve as support, and of those that are classified."""

  kept: np.ndarray
  held: np.ndarray


class Contender(NamedTuple):
  """A name, and a function that classifies some of the images by the others."""

  name: str
  classify: Classify


class Scored(NamedTuple):
  """Cross-validated predictions of one contender.

  Attributes:
    name: Name of the contender.
    classes: Names of the classes.
    truth: Class of each image, `[s]`.
    leave_one_out: Predicted class of each image when only it is left out, `[s]`; None for more than 200 images.
    folds: Predicted class of each image in each repetition of the folds, `[repeats, s]`.
  """

  name: str
  classes: tuple[str, ...]
  truth: np.ndarray
  leave_one_out: np.ndarray | None
  folds: np.ndarray

  @property
  def accuracy(self) -> Score:
    """Accuracy over the folds in percent; the interval is over images."""
    return mean_and_ci(100.0 * (self.folds == self.truth).mean(0))

  @property
  def accuracy_leave_one_out(self) -> Score | None:
    """Accuracy when one image is left out, in percent."""
    return None if self.leave_one_out is None else mean_and_ci(100.0 * (self.leave_one_out == self.truth))

  @property
  def confusion(self) -> np.ndarray:
    """Fraction of each true class (row) predicted as each class (column) over the folds, `[classes, classes]`."""
    counts = np.zeros((len(self.classes),) * 2)
    np.add.at(counts, (np.broadcast_to(self.truth, self.folds.shape), self.folds), 1)
    return counts / counts.sum(1, keepdims=True)

  @property
  def confused(self) -> np.ndarray:
    """Rows of the images that a fold got wrong, most often first."""
    wrong = (self.folds != self.truth).mean(0)
    return np.argsort(-wrong, kind="stable")[: int((wrong > 0).sum())]

  def ahead_of(self, other: "Scored") -> Score:
    """Accuracy minus that of another contender on the same folds, in percentage points, paired by image."""
    return paired_difference(self.accuracy, other.accuracy)


def score_model(
  contenders: Sequence[Contender], labels: Sequence[str], *, folds: int = 5, repeats: int = 4, seed: int = 0
) -> list[Scored]:
  """Cross-validates contenders on the same labeled images, by leave-one-out and by repeated stratified folds.

  Args:
    contenders: What to compare, such as `contender(model, support)` of several runs and `pixels(support)`.
    labels: Class of each image, two images or more of each.
    folds: Number of folds; no more than images of the smallest class are used.
    repeats: Number of random divisions into folds.
    seed: Seed of the divisions.

  Raises:
    ValueError: If a class has a single image, or a contender cannot classify as many classes.
  """
  checks.count("folds", folds, 2)
  checks.count("repeats", repeats)
  classes, truth = np.unique(np.array(labels, dtype=object), return_inverse=True)
  counts = np.bincount(truth)
  if counts.min() < 2:
    few = [str(name) for name, count in zip(classes, counts, strict=True) if count < 2]
    raise ValueError(f"expected two images or more of every class to cross-validate, got one of {', '.join(few[:5])}")
  one_hot = np.eye(len(classes), dtype=np.float32)[truth]
  one_out = (
    []
    if len(truth) > LEAVE_ONE_OUT
    else [Trial(np.delete(np.arange(len(truth)), i), np.array([i])) for i in range(len(truth))]
  )
  divisions = stratified(truth, min(folds, int(counts.min())), repeats, seed)
  scored = []
  for name, classify in contenders:
    predicted = lambda trials, classify=classify: _predicted(classify, one_hot, trials)  # noqa: E731
    left_out = predicted(one_out) if one_out else None
    in_folds = np.stack([predicted(trials) for trials in divisions])
    scored.append(Scored(name, tuple(map(str, classes)), truth, left_out, in_folds))
  return scored


def stratified(truth: np.ndarray, folds: int, repeats: int, seed: int) -> list[list[Trial]]:
  """The trials of each repetition of stratified folds."""
  from sklearn.model_selection import RepeatedStratifiedKFold

  dealt = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
  trials = [Trial(kept, held) for kept, held in dealt.split(np.zeros(len(truth)), truth)]
  return [trials[i : i + folds] for i in range(0, len(trials), folds)]


def contender(name: str, model: ImageModel, images: np.ndarray) -> Contender:
  """A model's own way to classify.

  Args:
    name: Name in tables.
    model: The model.
    images: Images in the model's format, inverted if need be, uint8 `[s, size, size, channels]`.
  """
  return Contender(name, lambda kept, labels, held: model.model.logits(images[kept], labels, images[held]))


def pixels(support: Support) -> Contender:
  """The nearest class mean of pixels, the baseline of every few-shot learner."""
  return of_features("pixels, nearest centroid", np.float32(support.images).reshape(len(support.images), -1) / 255)


def of_features(name: str, features: np.ndarray) -> Contender:
  """The nearest class mean of frozen features `[s, d]`."""
  features = np.asarray(features, np.float32)

  def classify(kept, labels, held):
    return np.asarray(_centroid_logits(features[kept], labels, features[held]))

  return Contender(name, classify)


def _predicted(classify: Classify, one_hot: np.ndarray, trials: Sequence[Trial]) -> np.ndarray:
  predicted = np.zeros(len(one_hot), int)
  for kept, held in trials:
    predicted[held] = classify(kept, one_hot[kept], held).argmax(1)
  return predicted
