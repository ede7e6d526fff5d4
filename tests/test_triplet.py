"""Triplet networks: the loss is the paper's over given triplets and over those found in a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import check_slopes
from table_of_learners import LEARNERS, encoder, episodes, labeled, one_hot, triplets

from metajax.compose import unit_rows
from metajax.learners import triplet
from metajax.losses import batch_hard, batch_semi_hard, triplet_margin
from metajax.predictors import nearest_logits, squared_distances


def hinge(gap, margin):
  return np.log1p(np.exp(gap)) if margin == "soft" else max(0.0, gap + margin)


def distances(rows):
  rows = np.float64(rows)
  return np.array([[np.sum((a - b) ** 2) for b in rows] for a in rows])


def hard(rows, classes, margin):
  """In the words of arXiv:1703.07737, one anchor at a time."""
  d, found = distances(rows), []
  for a, of in enumerate(classes):
    same = [d[a, i] for i, k in enumerate(classes) if k == of and i != a]
    other = [d[a, i] for i, k in enumerate(classes) if k != of and k >= 0]
    if of >= 0 and same and other:
      found.append(hinge(max(same) - min(other), margin))
  return np.mean(found) if found else 0.0


def semi_hard(rows, classes, margin):
  """In the words of arXiv:1503.03832, one pair of a class at a time."""
  d, found = distances(rows), []
  for a, of in enumerate(classes):
    other = [d[a, i] for i, k in enumerate(classes) if k != of and k >= 0]
    for p, its in enumerate(classes):
      if of >= 0 and its == of and p != a and other:
        beyond = [x for x in other if x > d[a, p]]
        found.append(hinge(d[a, p] - (min(beyond) if beyond else max(other)), margin))
  return np.mean(found) if found else 0.0


CLASSES = {
  "balanced": [0, 0, 1, 1, 2, 2, 0, 1],
  "one alone": [0, 0, 0, 1, 1, 2, 0, 1],
  "padded": [0, 0, -1, 1, 1, -1, 0, 2],
  "one class": [1] * 8,
  "no two": [0, 1, 2, -1, -1, -1, -1, -1],
}


@functools.cache
def of_both(margin):
  """The loss of hard and that of semi-hard negatives, each with its gradient, as one program."""
  loss = lambda rows, labels, mined: mined(squared_distances(rows, rows), labels, margin)
  both = lambda *given: [jax.value_and_grad(loss)(*given, mined) for mined in (batch_hard, batch_semi_hard)]
  return jax.jit(both)


@pytest.mark.parametrize("margin", [0.2, "soft"])
@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_hard_and_semi_hard_negatives_are_those_of_the_papers(classes, margin):
  rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
  labels = np.array([one_hot(k) if k >= 0 else np.zeros(3) for k in classes], np.float32)
  # Of one class there is no negative: rows and pairs of it weigh nothing.
  for (found, gradient), expected in zip(of_both(margin)(rows, labels), (hard, semi_hard), strict=True):
    np.testing.assert_allclose(found, expected(rows, classes, margin), rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[np.array(classes) < 0].any()


@pytest.mark.parametrize("margin", [0.2, "soft"])
def test_loss_over_given_triplets_is_the_papers(margin):
  learner = triplet(encoder, negatives="given", margin=margin)
  batch = triplets(1)

  @jax.jit
  def run(key):
    made = learner.init(key, triplets(0))
    embedded = [learner.embed(*made, batch[part]) for part in ("anchor", "positive", "negative")]
    return embedded, learner.loss(*made, batch, key)

  embedded, (loss, (_, metrics)) = run(jax.random.key(0))
  a, p, n = map(np.float64, embedded)
  gaps = [np.sum((x - y) ** 2) - np.sum((x - z) ** 2) for x, y, z in zip(a, p, n, strict=True)]
  np.testing.assert_allclose(loss, np.mean([hinge(gap, margin) for gap in gaps]), rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], np.mean(np.array(gaps) < 0))


def test_embeddings_are_of_length_one_unless_told_otherwise():
  plain = triplet(encoder, normalize=False)
  inputs = labeled(1).inputs

  @jax.jit
  def run(key):
    made = plain.init(key, labeled(0))
    return LEARNERS["triplet, semi-hard"].learner.embed(*made, inputs), unit_rows(plain.embed(*made, inputs))

  normalized, expected = run(jax.random.key(0))
  np.testing.assert_allclose(np.square(normalized).sum(-1), 1, rtol=1e-5)
  np.testing.assert_allclose(normalized, expected, rtol=1e-6)


def test_the_nearest_neighbor_of_each_way_decides():
  support, query = jax.tree.map(lambda x: x[0], episodes(0, shots=3))
  found = np.asarray(jax.jit(nearest_logits)(support.inputs, support.labels, query.inputs))
  for row, q in zip(found, np.float64(query.inputs), strict=True):
    d = [np.sum((q - s) ** 2) for s in np.float64(support.inputs)]
    of_way = [-min(x for x, label in zip(d, support.labels, strict=True) if label[way]) for way in range(3)]
    np.testing.assert_allclose(row, of_way, rtol=1e-4)


@pytest.mark.parametrize("name", ["triplet", "triplet, hard", "triplet, semi-hard"])
def test_gradient_is_that_of_finite_differences(float64, name):
  row = LEARNERS[name]
  batch = jax.tree.map(np.float64, row.batch(0))
  params, state = jax.jit(row.learner.init)(jax.random.key(0), batch)
  check_slopes(lambda p: row.learner.loss(p, state, batch, jax.random.key(0))[0], (params,), step=1e-6)


def test_semi_hard_negatives_hold_nothing_of_the_size_of_all_triplets():
  rows = 256
  loss = lambda x, labels: batch_semi_hard(squared_distances(x, x), labels)
  shapes = jax.ShapeDtypeStruct((rows, 8), jnp.float32), jax.ShapeDtypeStruct((rows, 4), jnp.float32)
  memory = jax.jit(jax.grad(loss)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
  assert memory < 4 * rows**3 / 8


@pytest.mark.parametrize(
  ("flags", "batch", "message"),
  [
    ({"negatives": "easy"}, None, "negatives to be 'given', 'hard' or 'semi_hard', got 'easy'"),
    ({"margin": 0.0}, None, "a margin above 0, or 'soft', got 0.0"),
    ({"margin": "hard"}, None, "a margin above 0, or 'soft', got 'hard'"),
    (
      {"negatives": "given"},
      labeled(0),
      "triplets, a dictionary of anchor, positive, negative, got one of type Examples",
    ),
    ({"negatives": "given"}, {"anchor": 0}, r"got \['anchor'\]"),
    ({}, triplets(0), "a batch of Examples, got one of type dict"),
    ({}, labeled(0, rows=4), r"two rows of one class .*got \[1.0, 1.0, 1.0, 1.0\] per class"),
  ],
)
def test_what_it_cannot_learn_from_is_refused(flags, batch, message):
  with pytest.raises(ValueError, match=message):
    triplet(encoder, **flags).init(jax.random.key(0), batch)


def test_triplets_of_other_shapes_are_refused():
  one = np.ones((3, 2), np.float32)
  with pytest.raises(ValueError, match=r"one shape, got \[\[3, 2\], \[3, 2\], \[2, 2\]\]"):
    triplet_margin(one, one, one[:2])
  with pytest.raises(ValueError, match=r"pair \[n, n\] .*, got \[3, 2\] and \[3, 2\]"):
    batch_hard(one, one)
