"""Zero-shot classification by the embeddings of class names."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.evaluate.embed import embed_dataset
from metajax.evaluate.retrieval import AT_ONCE, as_embeddings, check_finite, rank, unit
from metajax.evaluate.statistics import Score, mean_and_ci
from metajax.types import Examples, Params, State


class ZeroShot(NamedTuple):
  """The result of a zero-shot classifier.

  Attributes:
    top_1: a `Score`, top-1 accuracy in percent.
    top_5: a `Score`, top-5 accuracy in percent; top-n if there are only n < 5 classes.
    per_class: accuracy of each class in percent, `[classes]`; NaN for a class without examples.
    cosines: cosine of every example with every class, `[n, classes]`.
  """

  top_1: Score
  top_5: Score
  per_class: np.ndarray
  cosines: np.ndarray


def prompts(classes: Sequence[str], templates: Sequence[str] = ("{}",)) -> tuple[list[str], np.ndarray]:
  """Fills every template with every class name.

  Args:
    classes: class names.
    templates: texts with a placeholder `{}` for the class name.

  Returns:
    The prompts, and the class index of each prompt: both of length `classes * templates`.

  Raises:
    ValueError: if `classes` is empty, or a template has no placeholder `{}`.
  """
  if not classes:
    raise ValueError("expected at least one class, got none")
  bare = [template for template in templates if "{}" not in template]
  if bare or not templates:
    raise ValueError(f"expected templates with a place {{}} for the class, got {bare[0]!r}" if bare else "no template")
  texts = [template.replace("{}", name) for name in classes for template in templates]
  return texts, np.repeat(np.arange(len(classes)), len(templates))


def zero_shot_classifier(
  embed: Callable, params: Params, state: State, tokens: np.ndarray, of_class: np.ndarray
) -> np.ndarray:
  """The embedding of each class: the normalized mean of the unit embeddings of its prompts.

  Args:
    embed: a Learner's `embed` for tokens.
    params, state: those of the trained learner.
    tokens: tokens of the prompts, integers `[n, length]`.
    of_class: class of each prompt, integers `[n]` from 0; every class has at least one prompt.

  Returns:
    Unit embeddings of the classes, float32 `[classes, d]`.

  Raises:
    ValueError: if a prompt has no class, or a class has no prompt.
    FloatingPointError: if an embedding, a parameter or a value of the state is not finite; the message names it.

  Example:
    >>> import numpy as np
    >>> from metajax.evaluate import prompts, zero_shot_classifier
    >>> texts, of_class = prompts(["cat", "dog"], ["a {}", "the {}"])
    >>> tokens = np.array([[len(text), ord(text[-1])] for text in texts])
    >>> zero_shot_classifier(lambda params, state, tokens: tokens * 1.0, {}, {}, tokens, of_class).shape
    (2, 2)
  """
  if len(tokens) != len(of_class) or not len(tokens):
    given = f"{checks.counted(len(tokens), 'prompt')} and {checks.counted(len(of_class), 'class', 'classes')}"
    raise ValueError(f"expected the class of each prompt, got {given}")
  checks.integers("the classes of prompts", np.asarray(of_class), "n", low=0)
  found = embed_dataset(embed, params, state, _batches(tokens, of_class))
  each = unit(found.inputs)
  counts = np.bincount(found.labels)
  if not counts.all():
    raise ValueError(f"expected a prompt for every class, got none for class {int(np.argmin(counts))}")
  mean = np.zeros((len(counts), each.shape[1]), np.float32)
  np.add.at(mean, found.labels, each)
  return unit(mean / counts[:, None])


def zero_shot(classes: np.ndarray, examples: Examples) -> ZeroShot:
  """Classifies each image by the nearest class embedding by cosine.

  Ties are in random order, so embeddings that are all the same score at chance.

  Args:
    classes: class embeddings `[classes, d]`, from `zero_shot_classifier`.
    examples: image embeddings `[n, d]` and their classes, integers `[n]`, from `embed_dataset(...)`.

  Returns:
    A `ZeroShot`.

  Raises:
    ValueError: if shapes do not match, there is no example, or a label is out of range.
    FloatingPointError: if an embedding is not finite; the message names its row.
  """
  inputs, classes = as_embeddings(inputs=examples.inputs, classes=classes)
  labels = np.asarray(examples.labels)
  if inputs.ndim != 2 or classes.ndim != 2 or inputs.shape[1] != classes.shape[1] or labels.shape != inputs.shape[:1]:
    given = f"{list(inputs.shape)}, {list(labels.shape)} and classes {list(classes.shape)}"
    raise ValueError(f"expected examples [n, d] with labels [n], and classes [classes, d], got {given}")
  if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
    raise ValueError(f"expected integer labels from 0 to {len(classes) - 1}, got {np.unique(labels)[:5].tolist()}")
  check_finite(examples=inputs, classes=classes)
  cosines = unit(inputs) @ unit(classes).T
  found = rank(cosines, labels[:, None])

  def right(k):
    return 100.0 * found.recall(k)

  sums = np.bincount(labels, right(1), len(classes))
  with np.errstate(invalid="ignore"):
    per_class = sums / np.bincount(labels, minlength=len(classes))
  return ZeroShot(mean_and_ci(right(1)), mean_and_ci(right(min(5, len(classes)))), per_class, cosines)


def _batches(tokens: np.ndarray, of_class: np.ndarray) -> Iterable[Examples]:
  for start in range(0, len(tokens), AT_ONCE):
    yield Examples(tokens[start : start + AT_ONCE], np.asarray(of_class[start : start + AT_ONCE]))
