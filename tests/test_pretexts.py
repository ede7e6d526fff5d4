"""Invented labels: as distributed as claimed, right on images made by hand, and without what would give them away."""

import jax
import numpy as np
import pytest
from params_by_numpy import shapes
from scipy.stats import chi2_contingency, chisquare, kstest

from metajax.compose import linear
from metajax.learners import pretext
from metajax.networks import mlp
from metajax.pretexts import (
  audio_visual,
  jigsaw,
  least_hamming_distance,
  middle_tiles,
  order_prediction,
  permutations_apart,
  relative_patch,
  rotation,
  shuffle_and_learn,
  tiles,
  transformation,
)
from metajax.types import Pair

SAME = lambda key, x: x
CELLS = np.kron(np.arange(9, dtype=np.float32).reshape(3, 3), np.ones((8, 8), np.float32))[None, ..., None] / 8
PLAIN = {"gap": 2, "jitter": 3, "normalize": False}


def hear(window, clips, sounds):
  return shown(audio_visual(window), clips, sounds)


def shown(task, *shapes):
  """What a task makes of ones, without computing it."""
  made = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
  return jax.eval_shape(task, jax.random.key(0), Pair(*made) if len(made) == 2 else made[0])


def drawn(task, images, number=4000):
  """The invented inputs and label numbers of one image, many times."""
  found = jax.jit(task)(jax.random.key(0), np.repeat(images, number, 0))
  assert (np.asarray(found.labels).sum(-1) == 1).all()
  return np.asarray(found.inputs), np.argmax(found.labels, -1)


def test_an_image_is_turned_as_its_label_says_and_all_turns_are_as_likely():
  image = np.random.default_rng(0).random((1, 5, 5, 2), np.float32)
  turned, labels = drawn(rotation(), image)
  for turn in range(4):
    own = turned[labels == turn]
    np.testing.assert_array_equal(own, np.broadcast_to(np.rot90(image[0], turn), own.shape))
  assert chisquare(np.bincount(labels, minlength=4)).pvalue > 1e-3
  every = jax.jit(rotation(every=True))(jax.random.key(0), np.concatenate([image, 2 * image]))
  np.testing.assert_array_equal(every.labels, np.tile(np.eye(4), (2, 1)))
  np.testing.assert_array_equal(every.inputs[5], 2 * np.rot90(image[0], 1))


def test_tiles_stay_in_their_cells_apart_from_each_other_and_are_anywhere_there():
  height, width, gap, jitter = 26, 31, 2, 3
  places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float32)
  cut = lambda key: tiles(key, places, 3, gap=gap, jitter=jitter, normalize=False)
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


def test_an_image_is_looked_at_in_tiles_that_lie_in_the_middle_of_their_places():
  look = middle_tiles(gap=2, jitter=2)
  compiled = jax.jit(look)
  found = np.asarray(compiled(np.concatenate([CELLS, 2 * CELLS])))
  assert found.shape == (2, 9, 4, 4, 1)
  np.testing.assert_allclose(found[1], 2 * found[0])
  places = np.stack(np.meshgrid(np.arange(24), np.arange(24), indexing="ij"), -1).astype(np.float32)[None]
  corners = np.asarray(compiled(places))[0, :, 0, 0]
  np.testing.assert_array_equal(corners, 8 * np.stack(np.divmod(np.arange(9), 3), -1) + 2)
  learner = pretext(relative_patch(), mlp((8,), 5), linear(8), look=look)
  params, state = jax.eval_shape(learner.init, jax.random.key(0), np.asarray(CELLS.repeat(2, 0)))
  assert jax.eval_shape(learner.embed, params, state, CELLS).shape == (1, 45)


def test_a_tile_has_no_brightness_and_no_contrast_of_its_own():
  image = np.random.default_rng(0).random((24, 24, 3), np.float32) * np.linspace(0.1, 1, 24)[:, None, None]
  cut = jax.jit(tiles)
  found = np.asarray(cut(jax.random.key(0), image))
  np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(found.std((1, 2)), 1, atol=0.05)
  assert np.isfinite(cut(jax.random.key(0), np.ones((24, 24, 3), np.float32))).all()


def test_a_patch_is_beside_the_neighbor_that_its_label_says():
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


PLACES = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).astype(np.float32)


def marked(number):
  """Images that know their number, and where each pixel was."""
  own = np.arange(number, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
  return np.concatenate([own, np.broadcast_to(PLACES, (number, *PLACES.shape)), np.zeros_like(own), own * 0], -1)


def drawing_views():
  """A crop and a coloring that write down what they drew."""
  crop = lambda key, x: x.at[..., 3].set(jax.random.uniform(key))
  color = lambda key, x: x.at[..., 4].set(jax.random.uniform(key))
  return crop, color


def test_of_two_images_the_second_is_what_the_label_says():
  """Each of the four relations changes what it says, and nothing else."""
  number = 4000
  found = jax.jit(transformation(*drawing_views()))(jax.random.key(1), marked(number))
  inputs, labels = np.asarray(found.inputs), np.argmax(found.labels, -1)
  assert chisquare(np.bincount(labels, minlength=4)).pvalue > 1e-3
  first, second = inputs[:, 0, 0, 0], inputs[:, 1, 0, 0]
  np.testing.assert_array_equal(first[:, 0], np.arange(number))
  for label, (own, cut, tint) in enumerate(
    ((True, True, True), (True, False, True), (True, True, False), (False, True, True))
  ):
    of = labels == label
    for channel, same in ((0, own), (3, cut), (4, tint)):
      equal = first[of, channel] == second[of, channel]
      assert equal.all() if same else not equal.any(), (label, channel)
  corner = [tuple(np.rot90(PLACES, k)[0, 0]) for k in range(4)]
  turns = np.array([[corner.index(tuple(image[0, 0, 1:3])) for image in pair] for pair in inputs])
  for which in (0, 1):  # what is upright is told by neither
    assert chi2_contingency([np.bincount(turns[labels == k, which], minlength=4) for k in range(4)]).pvalue > 1e-3
  apart = (turns[:, 1] - turns[:, 0]) % 4
  assert not apart[labels > 0].any() and set(apart[labels == 0]) == {1, 2, 3}
  assert chisquare(np.bincount(apart[labels == 0])[1:]).pvalue > 1e-3
  other = inputs[labels == 3][:, 1, 0, 0, 0]
  assert len(np.unique(other)) > 600  # drawn from all others


def test_one_image_of_a_pair_alone_says_nothing():
  """Of both images, crop and color are drawn once, uniformly here, whatever the relation."""
  found = jax.jit(transformation(*drawing_views()))(jax.random.key(2), marked(4000))
  inputs, labels = np.asarray(found.inputs), np.argmax(found.labels, -1)
  for label in range(4):
    for which in (0, 1):
      for channel in (3, 4):
        assert kstest(inputs[labels == label][:, which, 0, 0, channel], "uniform").pvalue > 1e-3, (label, which)


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
  assert (outer[:, 1] - outer[:, 0] == 2 * stride).all()
  between = (outer[:, 0] < times[:, 1]) & (times[:, 1] < outer[:, 1])
  np.testing.assert_array_equal(between, labels)
  assert set(np.abs(times[:, 1] - outer.mean(-1))[labels == 0]) == {2 * stride}
  assert chisquare(np.bincount(labels)).pvalue > 1e-3


def test_no_frame_alone_and_no_pair_of_outer_frames_tells_the_order_even_where_frames_tell_the_time():
  times, labels = frames_asked(shuffle_and_learn(), moving(6))
  for values in (times[:, 0], times[:, 1], times[:, 2], 6 * times[:, 0] + times[:, 2]):
    table = np.stack([np.bincount(values[labels == k], minlength=36) for k in (0, 1)])
    assert chi2_contingency(table[:, table.any(0)]).pvalue > 1e-3
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
  still = jax.jit(shuffle_and_learn())(jax.random.key(0), np.ones((2, 6, 4, 4, 3), np.float32))
  assert np.isfinite(still.inputs).all()


@pytest.mark.parametrize("task", [rotation(), relative_patch(), jigsaw(8)], ids=["rotation", "patch", "jigsaw"])
def test_rows_have_keys_of_their_own_whatever_the_batch(task):
  images = np.random.default_rng(0).random((6, 24, 24, 1), np.float32)
  run = jax.jit(lambda key, images: [task(key, images[:n]) for n in (6, 4)])
  whole, part = jax.device_get(run(jax.random.key(3), images))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x[:4], y, atol=1e-6), whole, part)


def sounding(examples, frames, samples):
  """Clips whose pixels are 100 times the row and the time, and sounds that are the same for each frame's samples."""
  at = 100 * np.arange(examples)[:, None] + np.arange(frames)
  clips = at[..., None, None, None] * np.ones((1, 1, 2, 2, 1))
  return Pair(clips.astype(np.float32), np.repeat(at, samples, 1).astype(np.float32))


@pytest.mark.parametrize("kinds", [("others",), ("moments",), ("others", "moments")])
def test_a_sound_is_of_what_is_seen_or_of_another_example_or_moment(kinds):
  task = audio_visual(3, negatives=kinds, listen=lambda x: x)
  found = jax.jit(task)(jax.random.key(0), sounding(3000, 9, 2))
  seen, heard = (np.asarray(found.inputs[name]) for name in ("seen", "heard"))
  labels = np.argmax(found.labels, -1)
  assert seen.shape == (3000, 3, 2, 2, 1) and heard.shape == (3000, 6)
  frames, sounds = seen[..., 0, 0, 0], heard[:, ::2]
  assert (np.diff(frames) == 1).all() and (np.diff(sounds) == 1).all()
  assert chisquare(np.bincount(labels)).pvalue > 1e-3
  np.testing.assert_array_equal(frames[labels == 1], sounds[labels == 1])
  row, moment, of, at = (x[labels == 0] for x in (*np.divmod(frames[:, 0], 100), *np.divmod(sounds[:, 0], 100)))
  others = of != row
  assert others.mean() == {("others",): 1, ("moments",): 0}.get(kinds, pytest.approx(0.5, abs=0.05))
  np.testing.assert_array_equal(moment[others], at[others])
  assert (np.abs(moment - at)[~others] >= 3).all()


def test_what_is_heard_alone_says_nothing_whether_it_belongs():
  """The moments of sounds have one distribution for both labels, though those at the ends are farther from others."""
  found = jax.jit(audio_visual(3, negatives=("moments",), listen=lambda x: x))(jax.random.key(3), sounding(6000, 9, 1))
  at, labels = np.asarray(found.inputs["heard"])[:, 0].astype(int) % 100, np.argmax(found.labels, -1)
  table = np.stack([np.bincount(at[labels == k], minlength=7) for k in (0, 1)])
  assert (table > 0).all() and chi2_contingency(table).pvalue > 1e-3


def test_images_hear_whole_sounds_of_their_own_loudness_or_silence():
  random = np.random.default_rng(0)
  sounds = random.normal(size=(4, 50)).astype(np.float32) * np.array([[0.01], [1], [100], [0]], np.float32)
  task = audio_visual()
  found = jax.jit(task)(jax.random.key(0), Pair(np.ones((4, 2, 2, 1), np.float32), sounds))
  heard = np.asarray(found.inputs["heard"])
  loud = np.sqrt(np.square(heard).mean(-1))
  assert np.isclose(loud, 0.1, atol=1e-5).sum() + (loud == 0).sum() == 4


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: shown(rotation(), (2, 4, 6, 1)), r"square images .*got \[2, 4, 6, 1\]"),
    (
      lambda: shown(relative_patch(gap=4), (2, 21, 21, 1)),
      "at least 2 pixels a side, got cells of 7",
    ),
    (lambda: shown(relative_patch(jitter=-1), (2, 21, 21, 1)), "got 3, 2, -1"),
    (lambda: jigsaw(1), "2 to 362880 permutations of 9 tiles, got 1"),
    (lambda: shown(transformation(SAME, SAME), (1, 4, 4, 1)), "at least 2 images, .*got 1"),
    (lambda: shown(transformation(SAME, SAME), (2, 4, 6, 1)), r"square views .*got \[4, 6, 1\]"),
    (lambda: audio_visual(negatives=()), r"some of others, moments, got \[\]"),
    (lambda: audio_visual(0), "a window of at least 1 frame, got 0"),
    (lambda: hear(None, (2, 5, 4, 4, 1), (2, 10)), "a window for clips, the frames per moment, got none"),
    (lambda: audio_visual(2)(jax.random.key(0), np.ones((2, 4, 3, 3, 1))), "a Pair .*got a ndarray"),
    (lambda: hear(2, (2, 3, 4, 4, 1), (2, 6)), "at least 4 frames for moments of 2, got 3"),
    (lambda: hear(2, (2, 5, 4, 4, 1), (2, 6)), "got 6 for 5 frames"),
    (lambda: hear(2, (1, 5, 4, 4, 1), (1, 5)), "at least 2 examples, .*got 1"),
    (lambda: hear(2, (2, 4, 4), (2, 8)), r"expected images .*got \[2, 4, 4\] and \[2, 8\]"),
    (lambda: shuffle_and_learn(stride=0), "a stride of at least 1 frame, got 0"),
    (
      lambda: shown(order_prediction(stride=2), (1, 8, 4, 4, 1)),
      r"of at least 9 frames, got clips",
    ),
    (lambda: jigsaw(grid=4), "2 to 9 tiles, got 16"),
    (
      lambda: shapes(pretext(rotation(), mlp((8,), 5), linear(3)), np.ones((2, 4, 4, 1), np.float32)),
      r"a head of 4 outputs, the task's classes, got \[2, 3\]",
    ),
    (
      lambda: shapes(pretext(rotation(), mlp((8,), 5), linear(4)), np.full((2, 4, 4, 1), 2.0)),
      "values from 0 to 1, got values from 2 to 2",
    ),
  ],
)
def test_bad_input_is_named(make, said):
  with pytest.raises(ValueError, match=said):
    make()
