"""Pictures and texts in one space: classification by what classes are called, and finding one by the other."""

import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.evaluate.features import features
from metajax.evaluate.few_shot import Score, summarise
from metajax.evaluate.ranks import Rank, rank, unit
from metajax.types import Examples, Params, State

AT = (1, 5, 10)
AT_ONCE = 256  # texts or queries


class ZeroShot(NamedTuple):
  """What a zero-shot classifier was right about.

  Attributes:
    top_1: a `Score`, accuracy in percent.
    top_5: whether the class is among the five likeliest, or among all where there are fewer.
    per_class: the accuracy of each class in percent, `[classes]`; NaN where it has no example.
    cosines: of every example with every class, `[n, classes]`.
  """

  top_1: Score
  top_5: Score
  per_class: np.ndarray
  cosines: np.ndarray


def prompts(classes: Sequence[str], templates: Sequence[str] = ("{}",)) -> tuple[list[str], np.ndarray]:
  """Every template filled with every class, and the class of each: `[classes * templates]` of both.

  Raises:
    ValueError: if there are no classes, or a template has no place `{}`.
  """
  if not classes:
    raise ValueError("expected classes to tell apart, got none")
  bare = [template for template in templates if "{}" not in template]
  if bare or not templates:
    raise ValueError(f"expected templates with a place {{}} for the class, got {bare[0]!r}" if bare else "no template")
  texts = [template.replace("{}", name) for name in classes for template in templates]
  return texts, np.repeat(np.arange(len(classes)), len(templates))


def class_embeddings(
  embed: Callable, params: Params, state: State, tokens: np.ndarray, of_class: np.ndarray
) -> np.ndarray:
  """The embedding of each class: the mean of its prompts' unit embeddings, brought back to length 1, `[classes, d]`.

  Args:
    embed: a Learner's, of tokens.
    params, state: of the trained learner.
    tokens: of the prompts, integers `[n, length]`.
    of_class: the class of each prompt, integers `[n]` from 0, of each class one at least.

  Raises:
    ValueError: if there is not a class for each prompt, or a class has none.
    FloatingPointError: if an embedding, a parameter or a value of the state is not finite, naming it.
  """
  if len(tokens) != len(of_class) or not len(tokens):
    given = f"{checks.counted(len(tokens), 'prompt')} and {checks.counted(len(of_class), 'class', 'classes')}"
    raise ValueError(f"expected the class of each prompt, got {given}")
  checks.integers("the classes of prompts", np.asarray(of_class), "n", low=0)
  found = features(embed, params, state, _batches(tokens, of_class))
  each = unit(found.inputs)
  counts = np.bincount(found.labels)
  if not counts.all():
    raise ValueError(f"expected a prompt of every class, got none of class {int(np.argmin(counts))}")
  mean = np.zeros((len(counts), each.shape[1]), np.float32)
  np.add.at(mean, found.labels, each)
  return unit(mean / counts[:, None])


def zero_shot(classes: np.ndarray, examples: Examples) -> ZeroShot:
  """Gives each picture the class whose embedding is the nearest by cosine.

  Equals are in any order, so that embeddings that are all the same do as well as chance.

  Args:
    classes: `[classes, d]`, of `class_embeddings`.
    examples: embedded pictures `[n, d]` and their classes, integers `[n]`, of `features(...)`.

  Raises:
    ValueError: if shapes do not match, there is no example, or a label is out of range.
    FloatingPointError: if an embedding is not finite, naming its row.
  """
  inputs, classes = _embeddings(inputs=examples.inputs, classes=classes)
  labels = np.asarray(examples.labels)
  if inputs.ndim != 2 or classes.ndim != 2 or inputs.shape[1] != classes.shape[1] or labels.shape != inputs.shape[:1]:
    given = f"{list(inputs.shape)}, {list(labels.shape)} and classes {list(classes.shape)}"
    raise ValueError(f"expected examples [n, d] with labels [n], and classes [classes, d], got {given}")
  if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
    raise ValueError(f"expected integer labels from 0 to {len(classes) - 1}, got {np.unique(labels)[:5].tolist()}")
  _check_finite(examples=inputs, classes=classes)
  cosines = unit(inputs) @ unit(classes).T
  found = rank(cosines, labels[:, None])
  right = lambda k: 100.0 * found.recall(k)
  sums = np.bincount(labels, right(1), len(classes))
  with np.errstate(invalid="ignore"):
    per_class = sums / np.bincount(labels, minlength=len(classes))
  return ZeroShot(summarise(right(1)), summarise(right(min(5, len(classes)))), per_class, cosines)


def _batches(tokens: np.ndarray, of_class: np.ndarray) -> Iterable[Examples]:
  for start in range(0, len(tokens), AT_ONCE):
    yield Examples(tokens[start : start + AT_ONCE], np.asarray(of_class[start : start + AT_ONCE]))


def retrieval(pictures: np.ndarray, texts: np.ndarray, owner: np.ndarray, at: Sequence[int] = AT) -> dict[str, dict]:
  """Recall at `k` both ways, in percent: how often what is sought is among the `k` nearest by cosine.

  A text seeks its one picture among all pictures. A picture, of several texts, finds if any one of its own is among the
  `k` nearest of all texts (arXiv:1411.2539, 2103.00020). Equals are in any order, so embeddings that are all the same
  find as often as chance.

  Args:
    pictures: `[n, d]`.
    texts: `[m, d]`.
    owner: the picture of each text, integers `[m]`; every picture has one text at least.
    at: the numbers `k`.

  Returns:
    `{"text_to_picture": {k: Score}, "picture_to_text": {k: Score}}`, in percent over texts and over pictures.

  Raises:
    ValueError: if shapes do not match, there is no picture, a picture has no text, or a `k` is below 1.
    FloatingPointError: if an embedding is not finite, naming its row.
  """
  pictures, texts = _embeddings(pictures=pictures, texts=texts)
  owner = np.asarray(owner)
  if pictures.ndim != 2 or texts.ndim != 2 or pictures.shape[1] != texts.shape[1] or owner.shape != texts.shape[:1]:
    given = f"{list(pictures.shape)}, {list(texts.shape)} and {list(owner.shape)}"
    raise ValueError(f"expected pictures [n, d], texts [m, d] and the picture of each text [m], got {given}")
  if owner.dtype.kind not in "iu" or not len(pictures) or set(np.unique(owner)) != set(range(len(pictures))):
    raise ValueError(f"expected a text of each of the {len(pictures)} pictures, got those of {len(np.unique(owner))}")
  if not at or not all(isinstance(k, numbers.Integral) and k >= 1 for k in at):
    raise ValueError(f"expected recall at 1 or more, got {list(at)}")
  _check_finite(pictures=pictures, texts=texts)
  pictures, texts = unit(pictures), unit(texts)
  of_texts = _ranks(texts, owner[:, None], pictures)
  order = np.argsort(owner, kind="stable")
  spans = np.split(order, np.cumsum(np.bincount(owner))[:-1])
  most = max(map(len, spans))
  own_texts = np.stack([np.resize(span, most) for span in spans])  # a text again where a picture has fewer
  of_pictures = _ranks(pictures, own_texts, texts)
  recall = lambda found: {k: summarise(100.0 * found.recall(k)) for k in at}
  return {"text_to_picture": recall(of_texts), "picture_to_text": recall(of_pictures)}


def _embeddings(**embeddings):
  found = {name: checks.to_numpy(name, rows, ..., dtype=np.float32) for name, rows in embeddings.items()}
  for name, rows in found.items():
    if rows.shape[-1:] == (0,):
      raise ValueError(f"expected {name} of at least 1 value a row, got an array of shape {list(rows.shape)}")
  return found.values()


def _check_finite(**embeddings):
  for name, rows in embeddings.items():
    checks.finite(f"the embeddings of {name}", rows, error=FloatingPointError)


def _ranks(rows, own, among) -> Rank:
  parts = [slice(i, i + AT_ONCE) for i in range(0, len(rows), AT_ONCE)]
  found = [rank(rows[part] @ among.T, own[part]) for part in parts]
  return Rank(*map(np.concatenate, zip(*found, strict=True)))
