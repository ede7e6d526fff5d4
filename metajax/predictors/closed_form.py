"""Predictors of embeddings as they are, in closed form: nothing is trained at test time."""

from metajax import checks
from metajax.predictors.logits import centroid_logits, nearest_logits, ridge_logits
from metajax.similarity import unit_rows
from metajax.types import EmbedFn, PredictFn


def nearest_centroid(embed: EmbedFn) -> PredictFn:
  """A `predict` whose logits are minus the squared Euclidean distances to the centroids of the support's embeddings.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.

  Raises:
    TypeError: if `embed` is no function.
  """
  return _compared(embed, centroid_logits)


def nearest_neighbor(embed: EmbedFn) -> PredictFn:
  """A `predict` whose logits are minus the squared Euclidean distances to the nearest support embedding of each way.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.

  Raises:
    TypeError: if `embed` is no function.
  """
  return _compared(embed, nearest_logits)


def normalized(embed: EmbedFn) -> EmbedFn:
  """The embedding with rows of length 1.

  Raises:
    TypeError: if `embed` is no function.
  """
  _check(embed)
  return lambda params, state, inputs: unit_rows(embed(params, state, inputs))


def ridge(embed: EmbedFn, l2: float = 1.0) -> PredictFn:
  """A `predict` by ridge regression of the support's one-hot labels on its embeddings; see `ridge_logits`.

  Raises:
    TypeError: if `embed` is no function.
    ValueError: if `l2` is not above 0.
  """
  _check(embed)
  checks.scalar("l2", l2)
  checks.positive("l2", l2)
  return _compared(embed, lambda known, labels, asked: ridge_logits(known, labels, asked, l2))


def _compared(embed, logits):
  """A `predict` by `logits` of the support's embeddings, their labels and those of what is asked."""
  _check(embed)

  def predict(params, state, support, inputs):
    return logits(embed(params, state, support.inputs), support.labels, embed(params, state, inputs))

  return predict


def _check(embed):
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
