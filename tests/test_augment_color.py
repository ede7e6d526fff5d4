"""Views that change colors or take away detail: what they do is Python's, Pillow's and SciPy's, the draws are even."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare, kstest

from metajax.augment.image import (
  adjust_hue,
  blurred,
  color_jitter,
  cutout,
  gaussian_blur,
  luminance,
  random_grayscale,
  simclr,
  simclr_cifar,
  solarize,
)
from metajax.augment.image.color import jitter_draws, jittered

IMAGE = np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)


jit_hue = jax.jit(adjust_hue)


def keys(number=2000):
  return jax.random.split(jax.random.key(0), number)


def many(view, image=IMAGE, number=2000):
  return np.asarray(jax.jit(jax.vmap(view, (0, None)))(keys(number), image))


def turned(image, turn):
  """The hue turned pixel by pixel, by Python's colorsys."""
  found = np.empty_like(image, np.float64)
  for place in np.ndindex(image.shape[:2]):
    hue, saturation, value = colorsys.rgb_to_hsv(*image[place].tolist())
    found[place] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
  return found


def changed(image, what, factors, turn):
  """One change, as its definition has it."""
  own = (np.array([0.299, 0.587, 0.114]) * image).sum(-1, keepdims=True)
  if what == 3:
    return turned(image, turn)
  other = (0, own.mean(), own)[what]
  return np.clip(factors[what] * image + (1 - factors[what]) * other, 0, 1)


@pytest.mark.parametrize("turn", [0.0, 0.13, -0.4, 0.5])
def test_the_hue_turns_as_pythons(turn):
  special = np.array([[[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]], np.float32)
  for image in (IMAGE, special):
    np.testing.assert_allclose(jit_hue(image, np.float32(turn)), turned(image, turn), atol=2e-6)


def test_jitter_is_its_four_changes_in_the_order_that_is_drawn():
  def one(key):
    draws = jitter_draws(key, (0.8, 0.8, 0.8), 0.2)
    return draws, jittered(IMAGE, *draws)

  draws, found = jax.jit(jax.vmap(one))(keys(64))
  for one, factors, turn, order in zip(found, *map(np.asarray, draws), strict=True):
    expected = np.float64(IMAGE)
    for what in order:
      expected = changed(expected, what, factors, float(turn))
    np.testing.assert_allclose(one, expected, atol=1e-5)


def test_jitter_draws_every_order_and_strength_alike():
  draw = jax.jit(jax.vmap(lambda key: jitter_draws(key, (0.4, 0.8, 1.5), 0.2)))
  factors, turns, orders = map(np.asarray, draw(keys(4800)))
  _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
  assert len(counts) == 24 and chisquare(counts).pvalue > 1e-3
  for i, (low, high) in enumerate(((0.6, 1.4), (0.2, 1.8), (0.0, 2.5))):
    assert kstest(factors[:, i], "uniform", (low, high - low)).pvalue > 1e-3
  assert kstest(turns, "uniform", (-0.2, 0.4)).pvalue > 1e-3


def test_brightness_of_a_view_is_as_strong_as_it_says():
  plain = np.full((2, 2, 1), 0.4, np.float32)
  factors = many(color_jitter(0.5, 0, 0, 0), plain)[:, 0, 0, 0] / 0.4
  assert kstest(factors, "uniform", (0.5, 1.0)).pvalue > 1e-3


def test_jitter_of_one_channel_changes_brightness_and_contrast_alone():
  one = IMAGE[..., :1]
  both = lambda key, x: jnp.stack([color_jitter(0, 0, 0.9, 0.5)(key, x), color_jitter(0, 0.9, 0, 0)(key, x)])
  found = many(both, one, 8)
  np.testing.assert_allclose(found[:, 0], np.tile(one, (8, 1, 1, 1)), atol=1e-6)
  assert np.ptp(found[:, 1], axis=0).max() > 0.1
  with pytest.raises(ValueError, match=r"an image \[height, width, 1 or 3\], got \[9, 12, 2\]"):
    color_jitter()(jax.random.key(0), IMAGE[..., :2])


def test_gray_is_the_luminance_of_pillow_as_often_as_it_says():
  pixels = np.uint8(IMAGE * 255)
  expected = np.asarray(Image.fromarray(pixels).convert("L"))
  found = np.asarray(jax.jit(luminance)(pixels / np.float32(255)))[..., 0] * 255
  np.testing.assert_allclose(found, expected, atol=1)
  views = many(random_grayscale(0.3))
  is_gray = np.ptp(views, axis=-1).max((1, 2)) < 1e-6
  assert is_gray.mean() == pytest.approx(0.3, abs=0.04)
  np.testing.assert_array_equal(views[~is_gray], np.broadcast_to(IMAGE, views[~is_gray].shape))


@pytest.mark.parametrize("recipe", [simclr, simclr_cifar])
def test_augment_of_simclr_change_colors_in_four_of_five_and_a_fifth_are_gray(recipe):
  """Of an image of one color, which no crop, flip or blur changes."""
  color = np.array([0.7, 0.4, 0.2], np.float32)
  views = many(recipe(), np.tile(color, (6, 6, 1)), 1000)
  np.testing.assert_allclose(views, np.broadcast_to(views[:, :1, :1], views.shape), atol=1e-5)
  is_gray = np.ptp(views[:, 0, 0], axis=-1) < 1e-6
  changed = np.abs(views[~is_gray, 0, 0] - color).max(-1) > 1e-3
  assert is_gray.mean() == pytest.approx(0.2, abs=0.05) and changed.mean() == pytest.approx(0.8, abs=0.05)


def test_solarize_is_pillows():
  pixels = np.uint8(IMAGE * 255)
  expected = np.asarray(ImageOps.solarize(Image.fromarray(pixels), threshold=100))
  found = np.asarray(jax.jit(solarize(100 / 255))(jax.random.key(0), pixels / np.float32(255))) * 255
  np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.0])
def test_blur_is_scipys(deviation):
  reach = 6
  kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
  found = jax.jit(blurred)(IMAGE, np.float32(kernel / kernel.sum()))
  expected = gaussian_filter(np.float64(IMAGE), (deviation, deviation, 0), mode="reflect", radius=(reach, reach, 0))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(many(gaussian_blur((deviation, deviation)), number=1)[0], expected, atol=2e-3)


def test_blur_draws_its_deviation_evenly():
  dot = np.zeros((31, 31, 1), np.float32)
  dot[15, 15] = 1
  spread = many(gaussian_blur((0.5, 3.0)), dot, 500)[..., 0].sum(1)
  found = np.sqrt((spread * np.square(np.arange(31) - 15)).sum(-1))  # of a kernel that ends at 9 pixels
  assert kstest(np.clip(found, 0.5, 3), "uniform", (0.5, 2.5)).pvalue > 1e-3


def test_cutout_is_a_square_hole_anywhere():
  views = many(cutout(0.5, fill=0.7), np.ones((8, 10, 1), np.float32))[..., 0]
  holes = views < 1
  assert set(np.unique(views)) == {np.float32(0.7), 1.0}
  rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
  assert rows.max() == columns.max() == 4 and (holes.sum((1, 2)) == rows * columns).all()
  whole = (rows == 4) & (columns == 4)
  first = holes.any(1)[whole].argmax(1)
  assert set(first) == set(range(7)) and chisquare(np.bincount(first)).pvalue > 1e-3


@pytest.mark.parametrize(
  "make",
  [
    lambda: color_jitter(-0.1),
    lambda: color_jitter(hue=0.6),
    lambda: random_grayscale(1.5),
    lambda: solarize(2.0),
    lambda: gaussian_blur((0.0, 1.0)),
    lambda: gaussian_blur((2.0, 1.0)),
    lambda: cutout(1.5),
  ],
)
def test_arguments_out_of_range_are_refused(make):
  with pytest.raises(ValueError, match="expected"):
    make()
