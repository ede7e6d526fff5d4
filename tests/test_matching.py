"""Matching networks: attention, and full context, are those of the paper's equations."""

import functools

import jax
import numpy as np
import pytest
from finite_differences import check_slopes
from table_of_learners import LEARNERS, episodes, one_hot

from metajax.compose import linear
from metajax.learners import matching
from metajax.losses import cross_entropy
from metajax.predictors import EMPTY_WAY, attention, attention_logits

SCALE, STEPS = 3.0, 3
encoder = linear(5)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softmax(x):
  e = np.exp(x - np.max(x))
  return e / e.sum()


def lstm_step(params, x, h, c):
  gates = x @ params["input"] + h @ params["hidden"] + params["bias"]
  i, f, o, g = np.split(gates, 4)
  c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
  return sigmoid(o) * np.tanh(c), c


def reference(params, support, labels, queries, steps):
  """Equations 1 to 6 of arXiv:1606.04080 and its appendix A.2, in NumPy: P(k | x) of each query."""
  params = jax.tree.map(np.float64, params)
  support, queries = np.float64(support), np.float64(queries)
  there = [i for i, label in enumerate(labels) if label.any()]
  g = support.copy()
  if steps:
    for name, order in (("forward", there), ("backward", there[::-1])):
      h, c = np.zeros(support.shape[1]), np.zeros(support.shape[1])
      for i in order:
        h, c = lstm_step(params[name], support[i], h, c)
        g[i] = g[i] + h
  found = []
  for x in queries:
    f = x
    if steps:
      h, c = np.zeros_like(x), np.zeros_like(x)
      for _ in range(steps):
        a = softmax([h @ g[i] for i in there])
        r = sum(w * g[i] for w, i in zip(a, there, strict=True))
        output, c = lstm_step(params["read"], x, np.concatenate([h, r]), c)
        h = output + x
      f = h
    cosine = [SCALE * f @ g[i] / np.linalg.norm(f) / np.linalg.norm(g[i]) for i in there]
    found.append(sum(w * labels[i] for w, i in zip(softmax(cosine), there, strict=True)))
  return np.array(found)


def learner_of(steps):
  return matching(encoder, read_steps=steps, scale=SCALE)


@functools.cache
def made_of(steps, dtype=np.float32):
  params, state = jax.jit(learner_of(steps).init)(jax.random.key(0), episodes(0))
  # Biases too that are not zero, and weights that matter.
  random = np.random.default_rng(1)
  return jax.tree.map(lambda x: (x + 0.3 * random.normal(size=x.shape)).astype(dtype), jax.device_get(params)), state


@functools.cache
def embed_and_predict(steps):
  """Both compiled, of the learner and its params."""
  learner, made = learner_of(steps), made_of(steps)
  embed, predict = jax.jit(learner.embed), jax.jit(learner.predict)
  return lambda inputs: np.asarray(embed(*made, inputs)), lambda *task: np.asarray(predict(*made, *task))


@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_the_class_of_a_query_is_the_attention_weighted_sum_of_labels(steps):
  embed, predict = embed_and_predict(steps)
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  found = np.stack([softmax(row) for row in predict(support, query.inputs)])
  head = made_of(steps)[0]["head"]
  expected = reference(head, embed(support.inputs), support.labels, embed(query.inputs), steps)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert np.ptp(expected) > 0.05


@pytest.mark.parametrize("steps", [0, STEPS])
def test_loss_is_the_negative_log_likelihood(steps):
  made, batch, losses = made_of(steps), episodes(1, tasks=2), []
  embed, _ = embed_and_predict(steps)
  for task in range(2):
    support, query = jax.tree.map(lambda x, task=task: x[task], batch)
    likelihood = reference(made[0]["head"], embed(support.inputs), support.labels, embed(query.inputs), steps)
    losses.append(-np.mean(np.log((likelihood * query.labels).sum(-1))))
  found = jax.jit(learner_of(steps).loss)(*made, batch, jax.random.key(0))[0]
  np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_padded_rows_are_passed_over_wherever_they_are():
  _, predict = embed_and_predict(STEPS)
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  expected = predict(support, query.inputs)
  for place in (0, 2, 6):
    grown = jax.tree.map(lambda x, place=place: np.insert(x, place, 0, axis=0), support)
    grown.inputs[place] = 5
    np.testing.assert_allclose(predict(grown, query.inputs), expected, rtol=1e-5, atol=1e-6)


def test_full_context_depends_on_the_order_of_the_support_and_attention_alone_does_not():
  support, query = jax.tree.map(lambda x: x[0], episodes(1))
  flipped = jax.tree.map(lambda x: x[::-1], support)
  for steps, same in ((0, True), (STEPS, False)):
    _, predict = embed_and_predict(steps)
    first, second = (predict(s, query.inputs) for s in (support, flipped))
    assert np.allclose(first, second, atol=1e-5) == same


@pytest.mark.parametrize("steps", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_gradient_is_that_of_finite_differences(float64, steps):
  learner, batch = learner_of(steps), jax.tree.map(np.float64, episodes(0, tasks=1))
  params, state = made_of(steps, np.float64)
  check_slopes(lambda p: learner.loss(p, state, batch, jax.random.key(0))[0], (params,))


def test_unequal_shots_and_empty_ways_are_exact_and_lose_no_gradient():
  random = np.random.default_rng(0)
  support, queries = (random.normal(size=(n, 3)).astype(np.float32) for n in (5, 4))
  labels = one_hot([0, 2, 2, 0, 2], 4)
  labels[3] = 0
  asked = one_hot([0, 2, 0, 2], 4)

  @jax.jit
  def run(support, queries):
    loss = lambda *both: cross_entropy(attention_logits(both[0], labels, both[1]), asked)
    return attention_logits(support, labels, queries, SCALE), jax.grad(loss, (0, 1))(support, queries)

  logits, gradients = jax.device_get(run(support, queries))
  np.testing.assert_array_equal(logits[:, [1, 3]], EMPTY_WAY)
  expected = reference({}, support, labels, queries, 0)
  np.testing.assert_allclose([softmax(row) for row in logits], expected, rtol=1e-5, atol=1e-7)
  for gradient in gradients:
    assert np.isfinite(gradient).all() and gradient.any()


def test_attention_falls_on_labeled_rows_alone_and_on_none_where_there_is_none():
  scores = np.float32([1.0, 500.0, 2.0])
  labels = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
  of_sum = jax.value_and_grad(lambda s: attention(s, labels * 0).sum())
  found, nothing = jax.jit(lambda s: (attention(s, labels), of_sum(s)))(scores)
  np.testing.assert_allclose(found, [*softmax([1.0, 2.0])[:1], 0, *softmax([1.0, 2.0])[1:]], rtol=1e-6)
  assert nothing[0] == 0 and not nothing[1].any()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ({"read_steps": -1}, "read_steps to be a whole number of at least 0, got -1"),
    ({"scale": 0.0}, "a scale to be above 0, got 0.0"),
  ],
)
def test_arguments_out_of_range_are_refused(flags, message):
  with pytest.raises(ValueError, match=message):
    matching(encoder, **flags)


def test_trained_at_some_ways_it_is_tested_at_any():
  learner = LEARNERS["matching, full context"].learner
  made = jax.eval_shape(learner.init, jax.random.key(0), episodes(0))
  support, query = jax.tree.map(lambda x: x[0], episodes(1, ways=20, shots=1, queries=1))
  assert jax.eval_shape(learner.predict, *made, support, query.inputs).shape == (20, 20)
