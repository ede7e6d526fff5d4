"""The choice among predictors by cross-validation on the support set."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from metajax import checks
from metajax.types import Array, EmbedFn, Examples, Pair, Params, PredictFn, Predictor, State


def leave_one_out(embed: EmbedFn, candidates: Sequence[Predictor], *, folds: int | None = None) -> PredictFn:
  """Predicts by the candidate with the least cross-entropy on examples of the support set that it did not see.

  It chooses hyper-parameters of any predictor without a validation set. Each candidate adapts to the support set
  without a part, whose labels become zero, and predicts it. Examples whose class would be left without any are not
  counted; with one example a class there are none, and the first candidate is taken.

  Args:
    embed: `(params, state, inputs) -> [n, d]`. Images are embedded once: candidates are given their features.
    candidates: Predictors `embed -> predict`; of equals the first one is taken.
    folds: Number of parts, at least 2, with the examples of each class spread over them; by default every example is
      left out alone, which costs as many adaptations as there are examples.

  Returns:
    A `predict` with logits `[n, ways]`. The inputs of its support set may be image-text pairs, as of `zero_shot`.

  Raises:
    TypeError: if `embed` or a candidate is not a function.
    ValueError: if there are no candidates, or `folds` is below 2; when called, if labels are not one-hot `[s, ways]`.

  Example:
    >>> from functools import partial
    >>> import jax.numpy as jnp
    >>> from metajax import Examples, predictors
    >>> ridges = [partial(predictors.ridge, l2=l2) for l2 in (1e-3, 1.0)]
    >>> predict = predictors.leave_one_out(lambda params, state, inputs: inputs, ridges)
    >>> support = Examples(jnp.array([[0.0], [0.2], [1.0], [1.2]]), jnp.eye(2)[jnp.array([0, 0, 1, 1])])
    >>> predict({}, {}, support, jnp.array([[0.1], [1.1]])).shape
    (2, 2)
  """
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  if not len(candidates):
    raise ValueError("expected one or more candidates, got none")
  if folds is not None:
    checks.count("folds", folds, 2)

  def frozen(params, state, inputs):
    """Features as they are, tokens embedded."""
    return inputs if jnp.issubdtype(inputs.dtype, jnp.floating) else embed(params, state, inputs)

  for one in candidates:
    checks.function("a candidate", one, "embed -> predict")
  predicts = [one(frozen) for one in candidates]

  def predict(params, state, support, inputs):
    checks.one_hot("support labels", support.labels, 2)
    pairs = isinstance(support.inputs, Pair)
    features = embed(params, state, support.inputs.first if pairs else support.inputs)
    known = support._replace(inputs=Pair(features, support.inputs.second) if pairs else features)
    given, queries = partial(_left_out, params, state, known, features, folds), embed(params, state, inputs)
    best = 0 if len(predicts) == 1 else jnp.argmin(jnp.stack([given(one) for one in predicts]))
    branches = [lambda queries, one=one: one(params, state, known, queries) for one in predicts]
    return lax.switch(best, branches, queries)

  return predict


def _left_out(
  params: Params,
  state: State,
  support: Examples,
  features: Array,
  folds: int | None,
  predict: PredictFn,
) -> Array:
  """The cross-entropy of a candidate on the examples that it did not see."""
  labels = jnp.asarray(support.labels)
  fold = _fold_of(labels, folds)

  def score(part):
    seen = labels * (fold != part)[:, None]
    logits = predict(params, state, support._replace(labels=seen), features)
    counted = labels * ((fold == part) & (labels @ seen.sum(0) > 0))[:, None]
    return -(counted * jax.nn.log_softmax(logits)).sum()

  return lax.map(score, jnp.arange(len(labels) if folds is None else folds)).sum()


def _fold_of(labels: Array, folds: int | None) -> Array:
  """The part of each row: itself, or in turn among the rows of its class."""
  if folds is None:
    return jnp.arange(len(labels))
  place = (labels * (jnp.cumsum(labels, axis=0) - 1)).sum(1)
  return place.astype(jnp.int32) % folds
