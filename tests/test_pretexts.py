"""Invented labels: as distributed as claimed, right on pictures made by hand, and without what would give them away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from metajax.compose import linear
from metajax.learners import pretext
from metajax.networks import mlp
from metajax.pretexts import jigsaw, least_hamming_distance, permutations_apart, relative_patch, rotation, tiles

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
