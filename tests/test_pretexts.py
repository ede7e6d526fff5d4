"""Invented labels: as distributed as claimed, right on pictures made by hand, and without what would give them away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from metajax.compose import linear
from metajax.learners import pretext
from metajax.networks import mlp
from metajax.pretexts import (
  jigsaw,
  least_hamming_distance,
  order_prediction,
  permutations_apart,
  relative_patch,
  rotation,
  shuffle_and_learn,
  tiles,
  transformation,
)

CELLS = np.kron(np.arange(9, dtype=np.float32).reshape(3, 3), np.ones((8, 8), np.float32))[None, ..., None] / 8
PLAIN = {"gap": 2, "jitter": 3, "normalise": False}


def drawn(task, pictures, number=4000):
  """The invented inputs and label numbers of one picture, many times."""
  found = jax.jit(task)(jax.random.key(0), jnp.repeat(pictures, number, 0))
  assert (np.asarray(found.labels).sum(-1) == 1).all()
  return np.asarray(found.inputs), np.argmax(found.labels, -1)


def test_a_picture_is_turned_as_its_label_says_and_all_turns_are_as_likely():
  picture = np.random.default_rng(0).random((1, 5, 5, 2), np.float32)
  turned, labels = drawn(rotation(), picture)
  for turn in range(4):
    own = turned[labels == turn]
    np.testing.assert_array_equal(own, np.broadcast_to(np.rot90(picture[0], turn), own.shape))
  assert chisquare(np.bincount(labels, minlength=4)).pvalue > 1e-3
  every = rotation(every=True)(jax.random.key(0), jnp.concatenate([picture, 2 * picture]))
  np.testing.assert_array_equal(every.labels, np.tile(np.eye(4), (2, 1)))
  np.testing.assert_array_equal(every.inputs[5], 2 * np.rot90(picture[0], 1))


def test_tiles_stay_in_their_cells_apart_from_each_other_and_are_anywhere_there():
  height, width, gap, jitter = 26, 31, 2, 3
  places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float32)
  cut = lambda key: tiles(key, places, 3, gap=gap, jitter=jitter, normalise=False)
  found = np.asarray(jax.jit(jax.vmap(cut))(jax.random.split(jax.random.key(0), 3000)))  # [n, 9, side, side, 2]
  side = 8 - gap - jitter
  assert found.shape == (3000, 9, side, side, 2)
  first = found[:, :, 0, 0]
  np.testing.assert_array_equal(found, first[:, :, None, None] + places[:side, :side])
  for axis, middle in enumerate(((height - 24) // 2, (width - 24) // 2)):
    cell = np.array(np.unravel_index(np.arange(9), (3, 3))[axis]) * 8 + middle + gap // 2
    moved = first[..., axis] - cell
    assert chisquare(np.bincount(moved.astype(int).ravel(), minlength=jitter + 1)).pvalue > 1e-3
  rows = first[..., 0].reshape(-1, 3, 3)
  assert (rows[:, 1] - rows[:, 0] - side).min() >= gap  # between one row of tiles and the next


def test_a_tile_has_no_brightness_and_no_contrast_of_its_own():
  picture = np.random.default_rng(0).random((24, 24, 3), np.float32) * np.linspace(0.1, 1, 24)[:, None, None]
  found = np.asarray(tiles(jax.random.key(0), picture))
  np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(found.std((1, 2)), 1, atol=0.05)
  assert np.isfinite(tiles(jax.random.key(0), np.ones((24, 24, 3), np.float32))).all()


def test_a_patch_is_beside_the_neighbour_that_its_label_says():
  patches, labels = drawn(relative_patch(**PLAIN), CELLS)
  assert patches.shape[1:] == (2, 3, 3, 1)
  numbers = np.rint(patches.mean((2, 3, 4)) * 8).astype(int)
  assert (numbers[:, 0] == 4).all()
  np.testing.assert_array_equal(numbers[:, 1], np.array([0, 1, 2, 3, 5, 6, 7, 8])[labels])
  assert chisquare(np.bincount(labels, minlength=8)).pvalue > 1e-3


def test_tiles_are_in_the_order_that_the_label_says():
  orders = permutations_apart(9, 10, seed=1)
  found, labels = drawn(jigsaw(10, seed=1, **PLAIN), CELLS, number=1000)
  np.testing.assert_array_equal(np.rint(found.mean((2, 3, 4)) * 8), orders[labels])
  assert chisquare(np.bincount(labels, minlength=10)).pvalue > 1e-3


@pytest.mark.parametrize(("tiles", "number", "least"), [(9, 9, 9), (9, 64, 7), (4, 4, 4), (4, 24, 2)])
def test_permutations_are_as_far_apart_as_can_be(tiles, number, least):
  """As many as tiles can differ everywhere, as the rows of a Latin square; any two differ in two places."""
  found = permutations_apart(tiles, number)
  assert found.shape == (number, tiles) and (np.sort(found, -1) == np.arange(tiles)).all()
  assert least_hamming_distance(found) >= least


def test_of_two_pictures_the_second_is_what_the_label_says():
  pictures = np.random.default_rng(0).random((5, 4, 4, 1), np.float32) / 2
  task = transformation([lambda key, x: jnp.rot90(x), lambda key, x: x + 0.5])
  found = jax.jit(task)(jax.random.key(1), np.tile(pictures, (800, 1, 1, 1)))
  inputs, labels = np.asarray(found.inputs).reshape(800, 5, 2, 4, 4, 1), np.argmax(found.labels, -1).reshape(800, 5)
  for i, picture in enumerate(pictures):
    own = inputs[:, i][labels[:, i] == 0]
    np.testing.assert_array_equal(own, np.broadcast_to(np.stack([picture, np.rot90(picture)]), own.shape))
    own = inputs[:, i][labels[:, i] == 1]
    np.testing.assert_array_equal(own, np.broadcast_to(np.stack([picture, picture + 0.5]), own.shape))
    others = inputs[:, i, 1][labels[:, i] == 2]
    assert (others[:, None] == pictures).all((2, 3, 4)).any(1).all()
  assert chisquare(np.bincount(labels.ravel(), minlength=3)).pvalue > 1e-3


def test_an_unrelated_picture_is_any_other_one_and_all_are_seen_alike_before():
  pictures = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((4, 2, 2, 1), np.float32)
  task = transformation([lambda key, x: x + 10], before=lambda key, x: x + jax.random.uniform(key) / 4)
  found = jax.vmap(lambda key: task(key, pictures))(jax.random.split(jax.random.key(0), 2000))
  inputs, labels = np.asarray(found.inputs)[..., 0, 0, 0], np.argmax(found.labels, -1)
  first, second = np.floor(inputs[..., 0]), np.floor(inputs[..., 1])
  np.testing.assert_array_equal(first, np.broadcast_to(np.arange(4), first.shape))
  np.testing.assert_array_equal(second[labels == 0], first[labels == 0] + 10)
  apart = ((second - first) % 4)[labels == 1].astype(int)
  assert chisquare(np.bincount(apart, minlength=4)[1:]).pvalue > 1e-3 and (apart > 0).all()
  assert len(np.unique(inputs[..., 0] % 1)) > 1000 and not np.array_equal(inputs[..., 0] % 1, inputs[..., 1] % 1)


def frames_asked(task, clip, number=4000):
  """The times of the three frames that are asked about, `[number, 3]`, and the labels."""
  frames, labels = drawn(task, clip[None], number)
  return np.rint(frames[..., 0, 0, 0]).astype(int), labels


def moving(frames):
  """A clip whose pixels are the time."""
  return np.arange(frames, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32)


@pytest.mark.parametrize("stride", [1, 2])
def test_frames_are_in_order_or_not_as_the_label_says(stride):
  times, labels = frames_asked(shuffle_and_learn(stride=stride), moving(4 * stride + 3))
  outer = np.sort(times[:, [0, 2]], -1)
  assert (outer[:, 1] - outer[:, 0] == 2 * stride).all()  # the outer frames say nothing
  place = (times[:, 1] - outer[:, 0]) // stride
  np.testing.assert_array_equal(place[labels == 1], 1)
  assert set(place[labels == 0]) == {-1, 3}
  assert chisquare(np.bincount(labels)).pvalue > 1e-3
  backwards = times[:, 0] > times[:, 2]
  assert chisquare(np.bincount(backwards[labels == 1])).pvalue > 1e-3  # reversal is order, and no label


def test_the_frame_in_the_middle_is_the_label():
  times, labels = frames_asked(order_prediction(), moving(5))
  np.testing.assert_array_equal(times[:, 1], labels + 1)
  np.testing.assert_array_equal(np.sort(times, -1), np.broadcast_to([1, 2, 3], times.shape))
  assert chisquare(np.bincount(labels)).pvalue > 1e-3


def test_windows_are_drawn_in_proportion_to_their_motion():
  clip = np.zeros((9, 2, 2, 1), np.float32)
  clip[:, 0, 0, 0] = np.cumsum([0, 1, 1, 1, 1, 5, 5, 5, 5])  # windows of 4, 8, 12, 16 and 20 in all
  times, _ = drawn(order_prediction(), clip[None])
  middle = np.median(np.rint(times[:, :, 0, 0, 0]), -1)
  counts = [np.sum(middle == clip[start + 2, 0, 0, 0]) for start in range(5)]
  assert chisquare(counts, 4000 * np.array([4, 8, 12, 16, 20]) / 60).pvalue > 1e-3
  assert np.isfinite(shuffle_and_learn()(jax.random.key(0), np.ones((2, 6, 4, 4, 3), np.float32)).inputs).all()


def test_rows_have_keys_of_their_own_whatever_the_batch():
  pictures = np.random.default_rng(0).random((6, 24, 24, 1), np.float32)
  for task in (rotation(), relative_patch(), jigsaw(8)):
    whole, part = (task(jax.random.key(3), pictures[:n]) for n in (6, 4))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[:4], y, atol=1e-6), whole, part)


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: rotation()(jax.random.key(0), jnp.ones((2, 4, 6, 1))), r"square pictures .*got \[2, 4, 6, 1\]"),
    (
      lambda: relative_patch(gap=4)(jax.random.key(0), jnp.ones((2, 21, 21, 1))),
      "at least 2 pixels a side, got cells of 7",
    ),
    (lambda: relative_patch(jitter=-1)(jax.random.key(0), jnp.ones((2, 21, 21, 1))), "got 3, 2, -1"),
    (lambda: jigsaw(1), "2 to 362880 permutations of 9 tiles, got 1"),
    (lambda: transformation([]), "at least one view .*, got none"),
    (
      lambda: transformation([lambda k, x: x])(jax.random.key(0), jnp.ones((1, 4, 4, 1))),
      "at least 2 pictures, .*got 1",
    ),
    (lambda: shuffle_and_learn(stride=0), "a stride of at least 1 frame, got 0"),
    (
      lambda: order_prediction(stride=2)(jax.random.key(0), jnp.ones((1, 8, 4, 4, 1))),
      r"of at least 9 frames, got clips",
    ),
    (lambda: jigsaw(grid=4), "2 to 9 tiles, got 16"),
    (
      lambda: pretext(rotation(), mlp((8,), 5), linear(3)).init(jax.random.key(0), np.ones((2, 4, 4, 1), np.float32)),
      r"a head of 4 outputs, the task's classes, got \[2, 3\]",
    ),
    (
      lambda: pretext(rotation(), mlp((8,), 5), linear(4)).init(jax.random.key(0), np.full((2, 4, 4, 1), 2.0)),
      "values from 0 to 1, got values from 2 to 2",
    ),
  ],
)
def test_bad_input_is_named(make, said):
  with pytest.raises(ValueError, match=said):
    make()
