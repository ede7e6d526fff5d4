"""Pairs, triplets and balanced batches: what is drawn, how evenly, and as a pure function of the step."""

import jax
import numpy as np
import pytest

from metajax import Examples, Pair
from metajax.data import balanced, episode_rows, episodes, from_arrays, pairs, triplets


def numbered(counts=(4, 4, 6, 5), superclasses=("a", "a", "b", "b")):
  """Images of one pixel, which says the row."""
  labels = np.repeat(np.arange(len(counts)), counts)
  images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
  return from_arrays(images, labels, superclasses=superclasses)


def rows(inputs):
  return np.asarray(inputs)[:, 0, 0, 0].astype(int)


SOURCE = numbered()
CLASS, GROUP = SOURCE.labels, np.array([0, 0, 1, 1])


def draw(made, batches=40):
  return [batch for batch, _ in zip(made(), range(batches), strict=False)]


def test_every_other_pair_is_of_one_class_and_no_image_is_beside_itself():
  found = draw(pairs(SOURCE, batch_size=10))
  for batch in found:
    assert isinstance(batch, Examples) and isinstance(batch.inputs, Pair)
    first, second = map(rows, batch.inputs)
    np.testing.assert_array_equal(batch.labels, np.eye(2)[(CLASS[first] == CLASS[second]).astype(int)])
    np.testing.assert_array_equal(batch.labels[:, 1], np.arange(10) % 2 == 0)
    assert (first != second).all()


def test_classes_and_images_are_drawn_evenly():
  found = draw(pairs(SOURCE, batch_size=50), 60)
  first, second = (np.concatenate([rows(getattr(b.inputs, half)) for b in found]) for half in ("first", "second"))
  for which in (first, second):
    np.testing.assert_allclose(np.bincount(CLASS[which]) / len(which), 0.25, atol=0.03)
  of_two = first[CLASS[first] == 2]
  np.testing.assert_allclose(np.bincount(of_two - 8) / len(of_two), 1 / 6, atol=0.05)


def test_within_groups_a_task_or_a_batch_is_of_one_alphabet():
  group = np.array([0, 0, 1, 1])[SOURCE.labels]
  task = {"ways": 2, "shots": 1, "queries": 2, "within_superclass": True}
  seen = set()
  for batch in draw(episodes(SOURCE, **task, meta_batch_size=4)):
    for inputs in batch.support.inputs:
      (own,) = set(group[rows(inputs)])
      seen.add((own, *SOURCE.labels[rows(inputs)]))
  assert seen == {(0, 0, 1), (0, 1, 0), (1, 2, 3), (1, 3, 2)}
  taken = episode_rows(SOURCE, **task)(3)
  first = draw(episodes(SOURCE, **task, meta_batch_size=4), 1)[0]
  np.testing.assert_array_equal(rows(first.support.inputs[3]), taken[:, 0])
  for batch in draw(balanced(SOURCE, classes=2, each=3, within_superclass=True)):
    assert len(set(group[rows(batch.inputs)])) == 1
  with pytest.raises(ValueError, match="at least 3 classes in every superclass, with within_superclass, got 2 of 'a'"):
    episodes(SOURCE, **task | {"ways": 3}, meta_batch_size=1)


def test_within_groups_two_classes_are_of_one_alphabet():
  for batch in draw(pairs(SOURCE, batch_size=10, within_superclass=True)):
    first, second = (GROUP[CLASS[rows(half)]] for half in batch.inputs)
    np.testing.assert_array_equal(first, second)


def test_triplets_are_of_one_class_and_of_another():
  for batch in draw(triplets(SOURCE, batch_size=10)):
    assert sorted(batch) == ["anchor", "negative", "positive"]
    anchor, positive, negative = (rows(batch[part]) for part in ("anchor", "positive", "negative"))
    assert (CLASS[anchor] == CLASS[positive]).all() and (anchor != positive).all()
    assert (CLASS[anchor] != CLASS[negative]).all()


def test_a_balanced_batch_has_as_many_of_each_class_and_none_twice():
  for batch in draw(balanced(SOURCE, classes=3, each=4)):
    found = rows(batch.inputs)
    assert len(set(found)) == 12
    np.testing.assert_array_equal(batch.labels, np.repeat(np.eye(3), 4, axis=0))
    of = CLASS[found].reshape(3, 4)
    assert (of == of[:, :1]).all() and len(set(of[:, 0])) == 3


@pytest.mark.parametrize(
  "make",
  [
    lambda seed: pairs(SOURCE, batch_size=12, seed=seed),
    lambda seed: triplets(SOURCE, batch_size=12, seed=seed),
    lambda seed: balanced(SOURCE, classes=3, each=4, seed=seed),
  ],
  ids=["pairs", "triplets", "balanced"],
)
def test_batches_are_a_pure_function_of_seed_and_step_and_hosts_share_them(make):
  whole, late = draw(make(3), 4)[3], next(make(3)(3))
  parts = [next(make(3)(3, (host, 2))) for host in range(2)]
  for a, b, *halves in zip(*map(jax.tree.leaves, (whole, late, *parts)), strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, np.concatenate(halves))
  others = draw(make(4), 4)[3], draw(make(3), 3)[2]
  assert all(any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (whole, o)), strict=True)) for o in others)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: pairs(SOURCE, batch_size=0), "batch_size to be a whole number from 1 to .*, got 0"),
    (lambda: pairs(numbered((1, 4), ("a", "a")), batch_size=2), "at least 2 images of each class, got 1 of '0'"),
    (lambda: triplets(numbered((3,), ("a",)), batch_size=2), "at least 2 classes, got '0' alone"),
    (
      lambda: pairs(numbered((3, 3, 3), ("a", "a", "b")), batch_size=2, within_superclass=True),
      "at least 2 classes of the group 'b', got '2' alone",
    ),
    (lambda: balanced(SOURCE, classes=3, each=1), "from 2 to 4 images per class, .*, got 1"),
    (lambda: balanced(SOURCE, classes=3, each=5), "from 2 to 4 images per class, .*, got 5"),
    (lambda: balanced(SOURCE, classes=5, each=2), "from 2 ways to the 4 classes of the source, got 5"),
    (lambda: next(pairs(SOURCE, batch_size=3)(0, (0, 2))), "batch_size that 2 hosts divide, got 3"),
  ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
