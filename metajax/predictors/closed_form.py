"""Closed-form predictors on frozen embeddings: nothing is trained at test time."""

from metajax import checks
from metajax.predictors.logits import centroid_logits, nearest_logits, ridge_logits
from metajax.similarity import unit_rows
from metajax.types import Array, EmbedFn, PredictFn


def nearest_centroid(embed: EmbedFn) -> PredictFn:
  """The nearest-centroid classifier of prototypical networks (arXiv:1703.05175).

  Args:
    embed: `(params, state, inputs) -> [n, d]`.

  Returns:
    A `predict` whose logits are the negative squared Euclidean distances to each way's mean support embedding.

  Raises:
    TypeError: if `embed` is not a function.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax import Examples, predictors
    >>> predict = predictors.nearest_centroid(lambda params, state, inputs: inputs)
    >>> support = Examples(jnp.array([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0]]), jnp.array([[1, 0], [1, 0], [0, 1]]))
    >>> predict({}, {}, support, jnp.array([[1.0, 1.0], [4.0, 1.0]])).tolist()
    [[-1.0, -10.0], [-16.0, -1.0]]
  """
  return _compared(embed, centroid_logits)


def nearest_neighbor(embed: EmbedFn) -> PredictFn:
  """The nearest-neighbor classifier.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.

  Returns:
    A `predict` whose logits are the negative squared Euclidean distances to each way's nearest support embedding.

  Raises:
    TypeError: if `embed` is not a function.
  """
  return _compared(embed, nearest_logits)


def normalized(embed: EmbedFn) -> EmbedFn:
  """Normalizes an embedding's rows to length 1.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.

  Returns:
    An `embed` of the same signature.

  Raises:
    TypeError: if `embed` is not a function.
  """
  _check(embed)
  return lambda params, state, inputs: unit_rows(embed(params, state, inputs))


def centered(embed: EmbedFn, mean: Array) -> EmbedFn:
  """Centers an embedding and normalizes its rows to length 1 (CL2N of SimpleShot, arXiv:1911.04623).

      x' = (x - mean) / |x - mean|

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    mean: Mean embedding `[d]` of the training classes, e.g. of `embed_dataset(...)`.

  Returns:
    An `embed` of the same signature.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if the mean is not floating `[d]`.
  """
  _check(embed)
  checks.floating("mean", mean, "d")
  return lambda params, state, inputs: unit_rows(embed(params, state, inputs) - mean)


def ridge(embed: EmbedFn, l2: float = 1.0) -> PredictFn:
  """The ridge regression classifier: regresses the support's one-hot labels on its embeddings; see `ridge_logits`.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    l2: Strength of the L2 penalty, above 0.

  Returns:
    A `predict` whose logits are the regression's outputs.

  Raises:
    TypeError: if `embed` is not a function.
    ValueError: if `l2` is not above 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax import Examples, predictors
    >>> predict = predictors.ridge(lambda params, state, inputs: inputs, l2=1.0)
    >>> support = Examples(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.eye(2))
    >>> predict({}, {}, support, jnp.array([[2.0, 0.0]])).round(3).tolist()
    [[1.0, 0.0]]
  """
  _check(embed)
  checks.scalar("l2", l2)
  checks.positive("l2", l2)
  return _compared(
    embed, lambda support_features, labels, query_features: ridge_logits(support_features, labels, query_features, l2)
  )


def _compared(embed, logits):
  """Makes a `predict` from a function of the support's embeddings, its labels and the queries' embeddings."""
  _check(embed)

  def predict(params, state, support, inputs):
    return logits(embed(params, state, support.inputs), support.labels, embed(params, state, inputs))

  return predict


def _check(embed):
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
