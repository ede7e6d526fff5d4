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


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def of_means(rows, means, temperature):
  return np.array([[-temperature / 2 * ((x - m) ** 2).sum() for m in means] for x in rows])


def informed(support, labels, queries, rate, steps, temperature, weights):
  """TIM-GD, equations (1) to (3) of arXiv:2008.11297, by Adam with gradients by differences in 64 bits."""
  support, queries, labels = unit(np.float64(support)), unit(np.float64(queries)), np.float64(labels)
  means = np.array([support[labels[:, k] == 1].mean(0) for k in range(labels.shape[1])])

  def loss(means):
    p = np.array([softmax(row) for row in of_means(queries, means, temperature)])
    known = np.array([softmax(row) for row in of_means(support, means, temperature)])
    cross = -np.mean(np.log((known * labels).sum(1)))
    return (
      weights[0] * cross
      + weights[1] * (p.mean(0) * np.log(p.mean(0))).sum()
      - weights[2] * np.mean((p * np.log(p)).sum(1))
    )

  first, second = np.zeros_like(means), np.zeros_like(means)
  for step in range(1, steps + 1):
    gradient = np.zeros_like(means)
    for place in np.ndindex(means.shape):
      nudge = np.zeros_like(means)
      nudge[place] = 1e-6
      gradient[place] = (loss(means + nudge) - loss(means - nudge)) / 2e-6
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
    means = means - rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
  return of_means(queries, means, temperature)


def test_tim_is_the_papers():
  weights = (0.1, 1.0, 0.2)
  predict = jax.jit(predictors.tim(same, learning_rate=0.01, steps=6, temperature=9.0, weights=weights))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  np.testing.assert_allclose(found, informed(SUPPORT, LABELS, QUERIES, 0.01, 6, 9.0, weights), rtol=1e-3, atol=1e-3)


def transported(support, labels, queries, power, strength, rate, steps):
  """PT-MAP, algorithm 1 of arXiv:2006.03806, with plans of 100 iterations."""
  raised = lambda x: unit(np.sign(x) * (np.abs(x) + 1e-6) ** power)
  support, queries = raised(np.float64(support)), raised(np.float64(queries))
  support, queries = unit(support - support.mean(0)), unit(queries - queries.mean(0))
  means = np.array([support[labels[:, k] == 1].mean(0) for k in range(labels.shape[1])])

  def plan():
    found = np.exp(strength * of_means(queries, means, 2.0))
    for _ in range(100):
      found = found / found.sum(1, keepdims=True)
      found = found * (len(queries) / labels.shape[1]) / found.sum(0)
    return found

  for _ in range(steps):
    weights, rows = np.concatenate([labels, plan()]), np.concatenate([support, queries])
    means = means + rate * (weights.T @ rows / weights.sum(0)[:, None] - means)
  return plan()


def test_pt_map_is_the_papers():
  predict = jax.jit(predictors.pt_map(same, power=0.7, strength=4.0, learning_rate=0.3, steps=5))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  wanted = transported(SUPPORT, LABELS, QUERIES, 0.7, 4.0, 0.3, 5)
  np.testing.assert_allclose(np.exp(found), wanted / wanted.sum(1, keepdims=True), rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize("name", ["bd_cspn", "laplacian_shot", "tim", "pt_map"])
def test_padded_rows_and_ways_change_nothing(name):
  predict = jax.jit(getattr(predictors, name)(same))
  found = predict({}, {}, Examples(SUPPORT, LABELS), QUERIES)
  rows, labels = np.concatenate([SUPPORT, 9 * np.ones((2, 5), "f")]), np.pad(LABELS, ((0, 2), (0, 1)))
  padded = predict({}, {}, Examples(rows, labels), QUERIES)
  np.testing.assert_allclose(padded[:, :3], found, rtol=1e-4, atol=1e-4)
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
  with pytest.raises(ValueError, match="expected weights of three terms"):
    predictors.tim(same, weights=(0.1, -1.0, 0.1))
  with pytest.raises(ValueError, match="expected power"):
    predictors.pt_map(same, power=0.0)
  with pytest.raises(ValueError, match="expected neighbors"):
    predictors.laplacian_shot(same, neighbors=0)
  with pytest.raises(ValueError, match="expected mean"):
    predictors.centered(same, jnp.ones((2, 5)))
