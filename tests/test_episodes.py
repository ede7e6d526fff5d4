"""Episodes and batches of examples: pure functions of (seed, step), uniform, and the same on any number of hosts."""

import itertools

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from metajax.data import episodes, from_arrays, train_batches

IMAGES = (7, 9, 6, 12, 7, 8, 6)  # of each class; the first pixel says which class, the second which of its images
seeds = st.integers(-(2**63), 2**63 - 1)
task_settings = st.fixed_dictionaries(
  {"ways": st.integers(2, 7), "shots": st.integers(1, 3), "queries": st.integers(1, 3), "seed": seeds}
)


@pytest.fixture(scope="module")
def source():
  labels = np.repeat(np.arange(len(IMAGES)), IMAGES)
  numbers = np.concatenate([np.arange(count) for count in IMAGES])
  pixels = np.stack([labels, numbers, labels * 0, 255 + labels * 0], axis=1).astype(np.uint8)
  shuffle = np.random.default_rng(0).permutation(len(labels))
  return from_arrays(pixels[shuffle].reshape(-1, 2, 2, 1), labels[shuffle])


def first(batches, count, **where):
  return list(itertools.islice(batches(**where), count))


def identities(train_batches):
  """The (class, number) of each image, read off its pixels."""
  return train_batches.inputs[..., 0, :2, 0].astype(int)


def assert_equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def test_episodes_have_the_promised_shapes_ranges_and_order(source):
  (episode,) = first(episodes(source, ways=5, shots=2, queries=3, meta_batch_size=4), 1)
  assert episode.support.inputs.shape == (4, 10, 2, 2, 1) and episode.query.inputs.shape == (4, 15, 2, 2, 1)
  for part in episode:
    assert part.inputs.dtype == np.uint8 and part.labels.dtype == np.float32
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(episode))
  assert episode.query.inputs.min() == 0 and episode.query.inputs.max() == 255
  for rows, each in ((episode.support, 2), (episode.query, 3)):
    np.testing.assert_array_equal(rows.labels, np.tile(np.repeat(np.eye(5), each, axis=0), (4, 1, 1)))


def test_hosts_together_read_the_whole_batch_of_a_step(source):
  hosts_read_the_whole(source, {"ways": 3, "shots": 1, "queries": 2, "seed": -(2**62)}, 2, 3, 2**40 - 1)


@pytest.mark.slow
@settings(max_examples=16, deadline=None)
@given(task_settings, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**40))
def test_hosts_together_read_the_whole_batch_of_any_step(source, task, hosts, tasks_each, start):
  hosts_read_the_whole(source, task, hosts, tasks_each, start)


def hosts_read_the_whole(source, task, hosts, tasks_each, start):
  batches = episodes(source, **task, meta_batch_size=hosts * tasks_each)
  whole = first(batches, 2, start=start)
  shares = [first(batches, 2, start=start, shard=(host, hosts)) for host in range(hosts)]
  for step in (0, 1):
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *(share[step] for share in shares))
    assert_equal(joined, whole[step])
  assert_equal(first(batches, 1, start=start + 1), whole[1:])


@pytest.mark.parametrize(
  "task",
  [
    {"ways": 7, "shots": 3, "queries": 3, "seed": -1},
    pytest.param({"ways": 2, "shots": 1, "queries": 1, "seed": 2**63 - 1}, marks=pytest.mark.slow),
  ],
)
def test_images_of_a_task_are_distinct_and_each_way_is_one_class(source, task):
  are_distinct(source, task)


@pytest.mark.slow
@settings(max_examples=16, deadline=None)
@given(task_settings)
def test_images_of_any_task_are_distinct_and_each_way_is_one_class(source, task):
  are_distinct(source, task)


def are_distinct(source, task):
  (episode,) = first(episodes(source, **task, meta_batch_size=8), 1)
  support = identities(episode.support).reshape(8, task["ways"], task["shots"], 2)
  query = identities(episode.query).reshape(8, task["ways"], task["queries"], 2)
  for images in np.concatenate([support, query], axis=2):
    classes = images[:, :, 0]
    assert (classes == classes[:, :1]).all() and len(set(classes[:, 0])) == task["ways"]
    assert len({tuple(image) for image in images.reshape(-1, 2)}) == images[..., 0].size


def test_batches_from_the_eighth_on_are_those_of_a_full_run(source):
  batches = episodes(source, ways=3, shots=1, queries=2, meta_batch_size=4, seed=5)
  assert_equal(first(batches, 2, start=7), first(batches, 9)[7:])


def test_no_two_steps_and_no_two_seeds_draw_the_same_tasks(source):
  # Steps far apart differ only in the upper bits of the index of their tasks.
  places = [(0, start) for start in (0, 1, 2**29, 2**30, 2**32, 2**45)] + [(seed, 0) for seed in (1, -1, 2**32, 2**62)]
  drawn = [
    next(episodes(source, ways=5, shots=2, queries=3, meta_batch_size=4, seed=seed)(start=start)).query.inputs.tobytes()
    for seed, start in places
  ]
  assert len(set(drawn)) == len(drawn)


def chi_squared_is_plausible(counts):
  """Whether counts fit equal probabilities: chi squared within 5 standard deviations of its mean."""
  expected, freedom = counts.mean(), counts.size - 1
  return abs(((counts - expected) ** 2).sum() / expected - freedom) < 5 * np.sqrt(2 * freedom)


def test_classes_their_order_and_images_are_drawn_uniformly(source):
  (episode,) = first(episodes(source, ways=3, shots=1, queries=4, meta_batch_size=20_000, seed=1), 1)
  support = identities(episode.support)
  pairs = np.zeros((7, 7), int)
  np.add.at(pairs, (support[:, 0, 0], support[:, 2, 0]), 1)
  assert chi_squared_is_plausible(pairs[~np.eye(7, dtype=bool)]) and not pairs.diagonal().any()
  query = identities(episode.query).reshape(-1, 4, 2)
  for label, count in enumerate(IMAGES):
    one, last = support.reshape(-1, 2), query[:, 3]
    of_class = one[:, 0] == label
    numbers = np.zeros((count, count), int)
    np.add.at(numbers, (one[of_class, 1], last[of_class, 1]), 1)
    assert chi_squared_is_plausible(numbers[~np.eye(count, dtype=bool)]) and not numbers.diagonal().any()


@pytest.mark.parametrize(
  ("setting", "said"),
  [
    ({"ways": 8}, "2 ways to the 7 classes of the source, got 8"),
    ({"ways": 1}, "got 1"),
    ({"shots": 0}, "shots to be a whole number of at least 1, got 0"),
    ({"queries": 0}, "queries to be a whole number of at least 1, got 0"),
    ({"meta_batch_size": 0}, "meta_batch_size to be a whole number from 1 to .*, got 0"),
    ({"shots": 3, "queries": 4}, "at most 6, the images of the smallest class, '2'; got 3 \\+ 4 = 7"),
  ],
)
def test_impossible_tasks_are_refused_before_anything_is_drawn(source, setting, said):
  with pytest.raises(ValueError, match=said):
    episodes(source, **{"ways": 5, "shots": 1, "queries": 2, "meta_batch_size": 4, **setting})


@pytest.mark.parametrize(
  ("where", "said"),
  [
    ({"start": -1}, "got -1"),
    ({"shard": (2, 2)}, "got \\(2, 2\\)"),
    ({"shard": (-1, 2)}, "got \\(-1, 2\\)"),
    ({"shard": (0, 0)}, "got \\(0, 0\\)"),
    ({"shard": (0, 3)}, "that 3 hosts divide, got 4"),
  ],
)
def test_impossible_places_are_refused_when_asked_for(source, where, said):
  with pytest.raises(ValueError, match=said):
    episodes(source, ways=2, shots=1, queries=1, meta_batch_size=4)(**where)
  with pytest.raises(ValueError, match=said):
    train_batches(source, batch_size=4)(**where)


@pytest.mark.parametrize("batch_size", [1, 6, 130])
def test_every_epoch_of_examples_has_every_image_once_in_another_order(source, batch_size):
  number = len(source.labels)
  drawn = first(train_batches(source, batch_size=batch_size), 3 * number // batch_size + 1)
  images = np.concatenate([identities(batch) for batch in drawn])
  np.testing.assert_array_equal(
    np.concatenate([batch.labels for batch in drawn]), np.eye(7, dtype=np.float32)[images[:, 0]]
  )
  epochs = [[tuple(image) for image in images[e * number : (e + 1) * number]] for e in range(3)]
  assert all(len(set(epoch)) == number for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("hosts", "each", "start", "seed"), [(2, 20, 2**40 - 1, -(2**62))])
def test_hosts_together_read_the_examples_of_a_step(source, hosts, each, start, seed):
  hosts_read_the_examples(source, hosts, each, start, seed)


@pytest.mark.slow
@settings(max_examples=16, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**40), seeds)
def test_hosts_together_read_the_examples_of_any_step(source, hosts, each, start, seed):
  hosts_read_the_examples(source, hosts, each, start, seed)


def hosts_read_the_examples(source, hosts, each, start, seed):
  batches = train_batches(source, batch_size=hosts * each, seed=seed)
  whole = first(batches, 3, start=start)
  shares = [first(batches, 3, start=start, shard=(host, hosts)) for host in range(hosts)]
  for step in range(3):
    assert_equal(jax.tree.map(lambda *parts: np.concatenate(parts), *(share[step] for share in shares)), whole[step])
  assert_equal(first(batches, 2, start=start + 1), whole[1:])


def test_a_batch_of_no_examples_is_refused(source):
  with pytest.raises(ValueError, match="got 0"):
    train_batches(source, batch_size=0)


def test_tensorflow_sees_no_accelerator():
  assert not tf.config.get_visible_devices("GPU") and not tf.config.get_visible_devices("TPU")
