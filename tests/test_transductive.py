"""Transductive and centered predictors on frozen features, against NumPy as their papers have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import Examples, predictors

RANDOM = np.random.default_rng(0)
MEANS = RANDOM.normal(size=(3, 5))
LABELS = np.eye(3, dtype="f")[[0, 0, 1, 2]]
SUPPORT = (MEANS[[0, 0, 1, 2]] + 0.7 * RANDOM.normal(size=(4, 5))).astype("f")
QUERIES = (MEANS[np.arange(12) % 3] + 0.7 * RANDOM.normal(size=(12, 5)) + 0.5).astype("f")


def same(params, state, inputs):
  return inputs


def cosine(x, y):
  return (x @ y) / np.linalg.norm(x) / np.linalg.norm(y)


def rectified(support, labels, queries, scale):
  """BD-CSPN, equations (3) to (5) of arXiv:1911.10713, in loops."""
  queries = queries + support.mean(0) - queries.mean(0)
  means = [support[labels[:, k] == 1].mean(0) for k in range(labels.shape[1])]
  given = [int(np.argmax([cosine(x, m) for m in means])) for x in queries]
  found = []
  for k, mean in enumerate(means):
    members = [*support[labels[:, k] == 1], *(x for x, way in zip(queries, given, strict=True) if way == k)]
    weights = np.array([np.exp(scale * cosine(x, mean)) for x in members])
    found.append((weights[:, None] * members).sum(0) / weights.sum())
  return np.array([[scale * cosine(x, prototype) for prototype in found] for x in queries])


def softmax(x):
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def laplacian(support, labels, queries, strength, neighbors, steps):
  """LaplacianShot, algorithm 1 of arXiv:2006.15486, in loops."""
  means = [support[labels[:, k] == 1].mean(0) for k in range(labels.shape[1])]
  unary = np.array([[((x - m) ** 2).sum() for m in means] for x in queries])
  near = [
    [p for p in np.argsort([((x - y) ** 2).sum() for y in queries], kind="stable") if p != q][:neighbors]
    for q, x in enumerate(queries)
  ]
  logits = -unary
  for _ in range(steps):
    soft = np.array([softmax(row) for row in logits])
    logits = np.array([-unary[q] + strength * sum(soft[p] for p in near[q]) for q in range(len(queries))])
  return logits


def test_bd_cspn_is_the_papers():
  predict = jax.jit(predictors.bd_cspn(same))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  np.testing.assert_allclose(found, rectified(SUPPORT, LABELS, QUERIES, 10.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("strength", "neighbors", "steps"), [(1.0, 3, 20), (0.3, 2, 5), (0.0, 1, 1)])
def test_laplacian_shot_is_the_papers(strength, neighbors, steps):
  predict = jax.jit(predictors.laplacian_shot(same, strength, neighbors, steps))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  wanted = laplacian(SUPPORT, LABELS, QUERIES, strength, neighbors, steps)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_without_strength_it_is_the_nearest_centroid():
  support = Examples(SUPPORT, LABELS)
  found = jax.jit(predictors.laplacian_shot(same, 0.0))({}, {}, support, QUERIES)
  wanted = jax.jit(predictors.nearest_centroid(same))({}, {}, support, QUERIES)
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("predictor", [predictors.bd_cspn, predictors.laplacian_shot])
def test_padded_rows_and_ways_change_nothing(predictor):
  predict = jax.jit(predictor(same))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  rows, labels = np.concatenate([SUPPORT, 9 * np.ones((2, 5), "f")]), np.pad(LABELS, ((0, 2), (0, 1)))
  padded = predict({}, {}, Examples(rows, labels), QUERIES)
  np.testing.assert_allclose(padded[:, :3], found, rtol=1e-5, atol=1e-5)
  assert np.all(padded[:, 3] <= -1e9)


def test_cl2n_is_the_papers():
  mean = np.arange(5.0, dtype="f")
  found = jax.jit(predictors.centered(same, jnp.asarray(mean)))({}, {}, QUERIES)
  shifted = QUERIES - mean
  np.testing.assert_allclose(found, shifted / np.sqrt((shifted**2).sum(1, keepdims=True)), rtol=1e-5)


def test_bad_arguments_are_refused():
  with pytest.raises(ValueError, match="expected scale"):
    predictors.bd_cspn(same, 0.0)
  with pytest.raises(ValueError, match="expected more than 3 queries, the neighbors of each, got 3"):
    predictors.laplacian_shot(same)({}, {}, Examples(SUPPORT, LABELS), QUERIES[:3])
  with pytest.raises(ValueError, match="expected neighbors"):
    predictors.laplacian_shot(same, neighbors=0)
  with pytest.raises(ValueError, match="expected mean"):
    predictors.centered(same, jnp.ones((2, 5)))
