"""Probes of frozen features: scikit-learn's and NumPy's answers, every example once, and nothing thawed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from metajax import Examples
from metajax.data import eval_batches, from_arrays, select_rows, split_within_classes
from metajax.evaluate import assert_unchanged, embed_dataset, linear_probe, nearest_neighbors, neighbor_classes
from metajax.mesh import make_mesh


def clusters(seed, each=20, classes=4, spread=1.5, width=6):
  """Gaussian features about the same class means for every seed."""
  means = np.random.default_rng(0).normal(size=(classes, width))
  labels = np.repeat(np.arange(classes), each)
  noise = np.random.default_rng(seed + 1).normal(size=(len(labels), width))
  return Examples(np.float32(means[labels] + spread * noise), labels)


@pytest.fixture(scope="module")
def parts():
  return clusters(0), clusters(1), clusters(2, each=50)


def test_the_linear_probe_is_scikit_learns_at_the_strength_of_the_best_validation(parts):
  train, validation, test = parts
  strengths = (1.0, 0.1, 0.01)
  probed = linear_probe(*parts, strengths)

  def right(known, strength, asked):
    mean, deviation = known.inputs.mean(0), known.inputs.std(0)
    scaled = lambda x: (x - mean) / deviation
    model = LogisticRegression(C=1 / (strength * len(known.labels)), max_iter=2000, tol=1e-8)
    return 100 * np.mean(model.fit(scaled(known.inputs), known.labels).predict(scaled(asked.inputs)) == asked.labels)

  for strength in strengths:
    assert probed.validation[strength] == pytest.approx(right(train, strength, validation), abs=2.6)  # 2 of 80
  best = max(probed.validation, key=probed.validation.get)
  both = Examples(*map(np.concatenate, zip(train, validation, strict=True)))
  assert probed.chosen == best
  assert probed.test.mean == pytest.approx(right(both, best, test), abs=1.1)
  assert 40 < probed.test.mean < 99 and probed.test.tasks.shape == (200,)


def test_the_probe_stops_where_weaker_strengths_help_no_more(parts):
  probed = linear_probe(*parts, [10.0**-i for i in range(12)])
  assert len(probed.validation) < 12 and probed.chosen > min(probed.validation)


def votes(known, asked, k, temperature):
  """The weighted votes of one row at a time, in NumPy."""
  unit = lambda x: x / np.linalg.norm(x)
  found = []
  for row in np.float64(asked):
    cosines = np.array([unit(row) @ unit(other) for other in np.float64(known.inputs)])
    nearest = np.argsort(-cosines)[:k]
    weights = np.zeros(known.labels.max() + 1)
    for other in nearest:
      weights[known.labels[other]] += np.exp(cosines[other] / temperature)
    found.append(weights.argmax())
  return np.array(found)


def test_neighbors_vote_as_in_numpy(parts):
  train, _, test = parts
  for k, answers in neighbor_classes(train, test.inputs, (1, 5, 40)).items():
    np.testing.assert_array_equal(answers, votes(train, test.inputs, k, 0.07))


def test_the_number_of_neighbors_is_that_of_the_best_validation(parts):
  probed = nearest_neighbors(*parts, (1, 5, 20, 1000))
  assert set(probed.validation) == {1, 5, 20, 80}  # as many as there are
  assert probed.validation[probed.chosen] == max(probed.validation.values())
  both = Examples(*map(np.concatenate, zip(*parts[:2], strict=True)))
  answers = votes(both, parts[2].inputs, probed.chosen, 0.07)
  assert probed.test.mean == pytest.approx(100 * np.mean(answers == parts[2].labels))
  assert nearest_neighbors(*parts, (5,)).chosen == 5


@pytest.mark.parametrize("devices", [1, 8])
def test_features_count_every_example_once_whatever_the_batch(devices):
  inputs = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
  labels = np.arange(23)
  params = {"weight": jnp.eye(3, 2)}
  embed = lambda params, state, x: x @ params["weight"]
  cut = lambda size: (Examples(inputs[i : i + size], labels[i : i + size]) for i in range(0, 23, size))
  with jax.set_mesh(make_mesh(devices)):
    for size in (23, 10, 5):
      found = embed_dataset(embed, params, (), cut(size))
      np.testing.assert_allclose(found.inputs, inputs[:, :2], rtol=1e-6)
      np.testing.assert_array_equal(found.labels, labels)


def test_what_changes_frozen_arrays_or_is_not_finite_is_found():
  params = {"weight": np.ones(3)}
  with pytest.raises(RuntimeError, match="weight"), assert_unchanged(params, ()):
    params["weight"][1] += 1e-12
  rows = [
    Examples(np.ones((2, 1), np.float32), np.zeros(2, int)),
    Examples(np.zeros((2, 1), np.float32), np.zeros(2, int)),
  ]
  with pytest.raises(FloatingPointError, match="examples to be finite, got 2 of 4 rows that are not: 2, 3"):
    embed_dataset(lambda params, state, x: x / x, (), (), rows)
  with pytest.raises(ValueError, match="no batch"):
    embed_dataset(lambda params, state, x: x, (), (), [])


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda e: e._replace(labels=np.eye(4)[e.labels]), "integer labels"),
    (lambda e: e._replace(labels=np.float32(e.labels)), "integer train labels"),
    (lambda e: e._replace(labels=0 * e.labels), "at least 2 classes"),
    (lambda e: e._replace(inputs=e.inputs[:, None]), r"features \[n, "),
  ],
)
def test_features_and_labels_that_do_not_fit_are_refused(parts, change, said):
  for probe in (linear_probe, nearest_neighbors):
    with pytest.raises(ValueError, match=said):
      probe(change(parts[0]), *parts[1:])


def source(each=10, classes=3):
  images = np.arange(each * classes, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 1), np.uint8)
  return from_arrays(images, np.tile(np.arange(classes), each))


def test_images_are_dealt_class_by_class_and_none_twice():
  whole = source()
  dealt = split_within_classes(whole, (0.5, 0.3, 0.2), seed=1)
  assert [np.bincount(part.labels).tolist() for part in dealt] == [[5] * 3, [3] * 3, [2] * 3]
  seen = np.concatenate([part.images[:, 0, 0, 0] for part in dealt])
  assert sorted(seen) == list(range(30))
  assert sorted(split_within_classes(whole, (0.01,))[0].labels) == [0, 1, 2]  # one of each at least
  with pytest.raises(ValueError, match="at least 3 images of every class, got 2 of '0'"):
    split_within_classes(source(each=2), (0.5, 0.25, 0.25))
  with pytest.raises(ValueError, match="sum of at most 1"):
    split_within_classes(whole, (0.9, 0.2))


def test_an_evaluation_meets_every_image_once_in_order():
  whole = source()
  found = list(eval_batches(whole, batch_size=8)())
  assert [len(batch.labels) for batch in found] == [8, 8, 8, 6]
  images = np.concatenate([batch.inputs for batch in found])
  np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(30))
  np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), whole.labels)
  with pytest.raises(ValueError, match="unique rows"):
    select_rows(whole, [1, 1])
