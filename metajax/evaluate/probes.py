"""Probes of frozen features: a linear classifier, and nearest neighbors."""

import functools
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.evaluate.retrieval import unit
from metajax.evaluate.statistics import Score, mean_and_ci
from metajax.types import Array, Examples

STRENGTHS = tuple(10.0**e for e in range(1, -6, -1))
ITERATIONS = 200  # of L-BFGS per strength; each fit starts from the previous one
PATIENCE = 3  # strengths
NEIGHBORS = (1, 5, 20, 200)
QUERIES_AT_ONCE = 256


class ProbeResult(NamedTuple):
  """The result of a probe.

  Attributes:
    test: a `Score`, the accuracy in percent over the test examples with its 95% interval.
    chosen: the strength, or the number of neighbors, with the best validation accuracy.
    validation: validation accuracy in percent of each candidate, `{candidate: accuracy}`.
  """

  test: Score
  chosen: float
  validation: dict[float, float] | dict[int, float]


def linear_probe(
  train: Examples, validation: Examples, test: Examples, strengths: Sequence[float] = STRENGTHS
) -> ProbeResult:
  """Multinomial logistic regression on frozen features (the protocol of arXiv:1805.08974, 2002.05709):

      minimize  mean_i cross_entropy(W x_i + b, y_i) + strength / 2 |W|^2

  on features standardized to mean 0 and deviation 1 over the training examples, by L-BFGS. Strengths are tried from
  the strongest on, until three in a row have not improved the validation accuracy. The best strength (of equals the
  strongest) is chosen, and the classifier is refitted to training and validation examples together.

  Args:
    train, validation, test: features `[n, d]` and integer labels `[n]`, from `embed_dataset(...)`.
    strengths: candidate regularization strengths, above 0.

  Returns:
    A `ProbeResult`.

  Raises:
    ValueError: if features or labels have a wrong shape or type, a label has no training example, a strength is not
      above 0, or the training examples have one class.
    FloatingPointError: if a feature is not finite; the message names its row.

  Example:
    >>> import numpy as np
    >>> from metajax.evaluate import linear_probe
    >>> from metajax.types import Examples
    >>> part = Examples(np.array([[0.0], [1.0], [9.0], [10.0]]), np.array([0, 0, 1, 1]))
    >>> linear_probe(part, part, part).test.mean
    100.0
  """
  _check(train, validation, test)
  if not all(0 < strength < math.inf for strength in strengths) or not strengths:
    raise ValueError(f"expected strengths above 0, got {list(strengths)}")
  strengths, found = sorted(strengths, reverse=True), {}
  for strength, right in zip(strengths, _path(train, validation, strengths), strict=True):
    found[strength] = float(100 * right.mean())
    best = max(found, key=found.__getitem__)
    if strengths.index(strength) - strengths.index(best) == PATIENCE:
      break
  both = Examples(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)))
  *_, right = _path(both, test, [s for s in strengths if s >= best])
  return ProbeResult(mean_and_ci(100.0 * right), best, found)


def nearest_neighbors(
  train: Examples,
  validation: Examples,
  test: Examples,
  neighbors: Sequence[int] = NEIGHBORS,
  temperature: float = 0.07,
) -> ProbeResult:
  """Classifies by votes of the `k` nearest features by cosine, weighted `exp(cos / temperature)` (arXiv:1805.01978).

  `k` maximizes the validation accuracy (of equals the smallest). Test examples are then compared with training and
  validation examples together.

  Args:
    train, validation, test: features `[n, d]` and integer labels `[n]`, from `embed_dataset(...)`.
    neighbors: candidates for `k`; a single one is used without validation.
    temperature: temperature of the weights, above 0.

  Returns:
    A `ProbeResult`.

  Raises:
    ValueError: if features or labels have a wrong shape or type, a label has no training example, or a number is out
      of range.
    FloatingPointError: if a feature is not finite; the message names its row.
  """
  _check(train, validation, test)
  _check_numbers(neighbors, temperature)
  known = sorted({min(k, len(train.labels)) for k in neighbors})
  found: dict[int, float] = {}
  if len(known) > 1:
    answers = neighbor_classes(train, validation.inputs, known, temperature)
    found = {k: float(100 * np.mean(answers[k] == validation.labels)) for k in known}
  best = max(found, key=found.__getitem__) if found else known[0]
  both = Examples(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)))
  answers = neighbor_classes(both, test.inputs, [best], temperature)[best]
  return ProbeResult(mean_and_ci(100.0 * (answers == test.labels)), best, found)


def neighbor_classes(
  known: Examples, asked: np.ndarray, neighbors: Sequence[int], temperature: float = 0.07
) -> dict[int, np.ndarray]:
  """The class that the `k` nearest examples of `known` vote for, for each of several `k`.

  Args:
    known: features `[m, d]` and integer labels `[m]`.
    asked: query features `[n, d]`.
    neighbors: values of `k`, 1 to `m`.
    temperature: temperature of the weights `exp(cos / temperature)`, above 0.

  Returns:
    `{k: predicted labels [n]}`.

  Raises:
    ValueError: if features or labels have a wrong shape or type, or a number is out of range.
    FloatingPointError: if a feature is not finite; the message names its row.
  """
  _check_examples("known", known)
  _check_numbers(neighbors, temperature, len(known.labels))
  asked = checks.to_numpy("the query features", asked, ...)
  if np.ndim(asked) != 2 or np.shape(asked)[1] != np.shape(known.inputs)[1] or not len(asked):
    raise ValueError(f"expected query features [n, {np.shape(known.inputs)[1]}], got {list(np.shape(asked))}")
  checks.finite("the query features", asked, error=FloatingPointError)
  names, labels = np.unique(known.labels, return_inverse=True)
  run = _voter(tuple(neighbors), len(names), temperature)
  library, labels = jnp.asarray(unit(known.inputs)), jnp.asarray(labels)
  queries, parts = unit(asked), []
  for start in range(0, len(queries), QUERIES_AT_ONCE):
    some = queries[start : start + QUERIES_AT_ONCE]
    padded = np.pad(some, ((0, QUERIES_AT_ONCE - len(some)), (0, 0)))
    parts.append(np.asarray(run(library, labels, padded))[:, : len(some)])
  return dict(zip(neighbors, names[np.concatenate(parts, 1)], strict=True))


@functools.lru_cache(maxsize=16)
def _voter(neighbors, classes, temperature):
  """The jitted vote, cached so that calls with the same shapes compile it once."""

  def vote(library, labels, queries) -> Array:
    nearest, rows = jax.lax.top_k(queries @ library.T, max(neighbors))
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)  # the nearest has weight 1, so nothing overflows

    def add(k):
      return jnp.zeros((len(queries), classes)).at[jnp.arange(len(queries))[:, None], labels[rows[:, :k]]]

    return jnp.stack([add(k).add(weights[:, :k]).argmax(-1) for k in neighbors])

  return jax.jit(vote)


def _path(known: Examples, asked: Examples, strengths: Sequence[float]):
  """Yields for each strength a mask of the correctly classified examples of `asked`; fits are warm-started."""
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression
  from sklearn.preprocessing import StandardScaler

  scaler = StandardScaler().fit(np.float32(known.inputs))
  regression = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
  for strength in strengths:
    # scikit-learn minimizes C times the sum over examples, plus |W|^2 / 2.
    regression.set_params(C=1 / (strength * len(known.labels)))
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is fixed on purpose
      regression.fit(scaler.transform(np.float32(known.inputs)), known.labels)
    yield regression.predict(scaler.transform(np.float32(asked.inputs))) == asked.labels


def _check(train: Examples, validation: Examples, test: Examples):
  width = np.shape(train.inputs)[-1:]
  for name, part in (("train", train), ("validation", validation), ("test", test)):
    _check_examples(name, part, width)
  if len(np.unique(train.labels)) < 2:
    raise ValueError("expected training examples of at least 2 classes, got 1")
  known = train.labels
  for name, part in (("validation", validation), ("test", test)):
    if (unknown := np.setdiff1d(part.labels, known)).size:
      rows = int(np.isin(part.labels, unknown).sum())
      given = f"{', '.join(map(str, unknown[: checks.SHOWN]))}{', ...' * (unknown.size > checks.SHOWN)}"
      raise ValueError(f"expected {name} labels that were trained on, got {given} in {rows} of {len(part.labels)} rows")
    known = np.concatenate([known, part.labels])  # test examples are compared with both


def _check_examples(name: str, part: Examples, width: tuple = ()):
  inputs, labels = part
  width = width or np.shape(inputs)[-1:]
  inputs = checks.to_numpy(f"{name} features", inputs, ...)
  if np.ndim(inputs) != 2 or np.shape(inputs)[1:] != width or np.shape(labels) != np.shape(inputs)[:1]:
    given = f"{list(np.shape(inputs))} and {list(np.shape(labels))}"
    raise ValueError(f"expected {name} features [n, {width[0] if width else 'd'}] and integer labels [n], got {given}")
  if np.asarray(labels).dtype.kind not in "iu" or not len(labels):
    raise ValueError(f"expected integer {name} labels, at least one, got {len(labels)} of {np.asarray(labels).dtype}")
  checks.integers(f"{name} labels", np.asarray(labels), "n", low=0)
  checks.finite(f"{name} features", inputs, error=FloatingPointError)


def _check_numbers(neighbors: Sequence[int], temperature: float, most: int | None = None):
  for number in neighbors or (0,):
    checks.count("the number of neighbors", number, most=most)
  checks.positive("temperature", temperature)
