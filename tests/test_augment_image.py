"""Views of images: the maps are those of SciPy, the draws those that are promised, and values stay in [0, 1]."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from metajax.augment.image import (
  affine,
  centered,
  compose,
  elastic,
  gaussian_noise,
  geometry,
  random_apply,
  sample,
  warp,
)

IMAGE = gaussian_filter(np.random.default_rng(0).random((21, 30, 2)), (2, 2, 0)).astype(np.float32)


warped = jax.jit(warp, static_argnums=3)


def many(view, image=IMAGE, number=256):
  """The view of one image under many keys."""
  return np.asarray(jax.jit(jax.vmap(view, (0, None)))(jax.random.split(jax.random.key(0), number), image))


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_a_warp_is_that_of_scipy(fill):
  matrix, translation = np.array([[0.9, 0.3], [-0.2, 1.1]]), np.array([1.5, -2.25])
  found = np.asarray(warped(IMAGE, matrix, translation, fill))
  # SciPy maps output to input, rows before columns.
  inverse = np.linalg.inv(matrix)[::-1, ::-1]
  middle = (np.array(IMAGE.shape[:2]) - 1) / 2
  offset = middle - inverse @ (middle + translation[::-1])
  for channel in range(2):
    expected = affine_transform(
      IMAGE[..., channel].astype(np.float64), inverse, offset, order=1, mode="grid-constant", cval=fill
    )
    np.testing.assert_allclose(found[..., channel], expected, rtol=1e-4, atol=1e-5)


def test_a_quarter_turn_is_exact():
  square = IMAGE[:, :21]
  turned = warped(square, np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2))
  np.testing.assert_allclose(turned, np.rot90(square, -1), atol=1e-5)  # y is down: clockwise


def test_x_goes_to_the_right_and_y_down():
  dot = np.zeros((9, 9, 1), np.float32)
  dot[4, 4] = 1
  moved = np.asarray(warped(dot, np.eye(2), np.array([2.0, 1.0])))
  assert moved[5, 6, 0] == 1 and moved.sum() == 1


PARTS = ({"rotation": 30.0}, {"shear": 0.3}, {"scale": (0.5, 0.9)}, {"translation": 0.2})
NONE = {"rotation": 0.0, "shear": 0.0, "scale": (1.0, 1.0), "translation": 0.0}


def test_each_part_of_an_affine_map_is_drawn_with_its_probability(monkeypatch):
  """Of all kinds by one program, of the maps alone."""
  monkeypatch.setattr(geometry, "warp", lambda image, matrix, translation, fill: (matrix, translation))
  of = lambda probability, *parts: affine(**functools.reduce(dict.__or__, parts, NONE), probability=probability)
  views = [of(0.5), of(0.0, *PARTS), of(1.0, PARTS[1]), *(of(0.5, part) for part in PARTS)]
  run = jax.jit(jax.vmap(lambda key: [view(key, jnp.zeros((21, 30, 2))) for view in views]))
  maps = jax.device_get(run(jax.random.split(jax.random.key(0), 256)))
  nothing, never, always, *half = (np.mean((matrix != np.eye(2)).any((1, 2)) | moved.any(1)) for matrix, moved in maps)
  assert nothing == never == 0 and always > 0.98
  np.testing.assert_allclose(half, [0.5, 0.75, 0.75, 0.75], atol=0.1)  # of the other parts there are two


@pytest.mark.slow  # the maps are drawn with it, and a warp is SciPy's
def test_each_part_of_an_affine_view_is_there_with_its_probability():
  one = lambda **part: affine(**NONE | part)
  changed = lambda view: np.mean(np.abs(many(view) - IMAGE).max((1, 2, 3)) > 1e-4)
  assert changed(one()) == 0
  for part in PARTS:
    share = 0.5 if "rotation" in part else 0.75  # of the other parts there are two
    assert changed(one(**part)) == pytest.approx(share, abs=0.1), part
    assert changed(one(**part, probability=1.0)) > 0.98 and changed(one(**part, probability=0.0)) == 0


def test_an_affine_view_keeps_values_in_range_and_shows_what_is_outside_as_the_fill():
  views = many(affine(rotation=45.0, translation=0.5, probability=1.0, fill=1.0))
  assert views.shape == (256, *IMAGE.shape) and views.min() >= IMAGE.min() - 1e-6
  assert views.max() == pytest.approx(1, abs=1e-6)
  assert len(np.unique(np.asarray(views).sum((1, 2, 3)))) == 256


def test_an_elastic_view_moves_pixels_as_far_as_it_says_and_neighbors_alike():
  # A ramp: its value says where a pixel comes from.
  ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 40, 1))
  shift = np.asarray(many(elastic(0.05, 0.15), ramp) - ramp)[:, 10:30, 10:30, 0]
  assert np.sqrt(np.mean(shift**2)) == pytest.approx(0.05 * 40, rel=0.15)
  assert np.abs(shift.mean((0, 1, 2))) < 0.3
  assert np.sqrt(np.mean(np.diff(shift, axis=1) ** 2)) < 0.2 * np.sqrt(np.mean(shift**2))
  np.testing.assert_allclose(many(elastic(0.0), IMAGE, 1)[0], IMAGE, atol=1e-6)


def test_noise_has_its_deviation_and_stays_in_range():
  gray = np.full((20, 20, 1), 0.5, np.float32)
  assert np.std(many(gaussian_noise(0.1), gray, 16)) == pytest.approx(0.1, rel=0.03)
  loud = many(gaussian_noise(3.0), gray, 16)
  assert loud.min() == 0 and loud.max() == 1


def test_sometimes_and_compose_draw_with_keys_of_their_own():
  black = np.zeros((2, 2, 1), np.float32)
  there = many(random_apply(lambda key, x: x + 1, 0.3), black, 2000)[:, 0, 0, 0]
  assert np.mean(there) == pytest.approx(0.3, abs=0.05)
  jitter = lambda key, x: x + jax.random.normal(key, ())
  twice = many(compose(jitter, jitter), black, 2000)[:, 0, 0, 0]
  assert np.std(twice) == pytest.approx(np.sqrt(2), rel=0.1)  # the same key would give 2


def test_a_view_is_a_function_of_its_key_and_can_be_differentiated():
  view = jax.jit(compose(affine(), elastic(), gaussian_noise(0.01)))
  first, again, other = (view(jax.random.key(seed), IMAGE) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)
  whole = lambda y: sample(jnp.asarray(IMAGE), y, jnp.full((3, 3), 4.5)).sum()
  gradient = np.asarray(jax.jit(jax.grad(whole))(np.full((3, 3), 5.5, np.float32)))
  assert np.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: affine(rotation=-1), "a rotation from 0 to 180, got -1"),
    (lambda: affine(shear=1.0), "a shear of at least 0 and below 1, got 1.0"),
    (lambda: affine(scale=(1.2, 0.8)), r"0 < low <= high, got \(1.2, 0.8\)"),
    (lambda: affine(translation=2.0), "a translation from 0 to 1, got 2.0"),
    (lambda: affine(probability=1.5), "a probability from 0 to 1, got 1.5"),
    (lambda: elastic(-1.0), "a strength of at least 0, got -1.0"),
    (lambda: elastic(smoothness=0.0), "a smoothness above 0, got 0.0"),
    (lambda: gaussian_noise(-0.1), "a deviation of at least 0, got -0.1"),
    (lambda: random_apply(gaussian_noise(), 2), "a probability from 0 to 1, got 2"),
  ],
)
def test_arguments_out_of_range_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_centered_brings_ink_to_the_middle_and_to_one_size_wherever_it_was_drawn():
  """The mean of the ink's places and their deviation are what is asked for; place and size have no say."""
  y, x = np.mgrid[:40, :40] - 19.5
  blob = lambda cy, cx, size: np.exp(-(((y - cy) / (2 * size)) ** 2 + ((x - cx) / size) ** 2))[..., None].astype(
    np.float32
  )
  view = jax.jit(lambda image: centered(0.12)(None, image))
  found = [np.asarray(view(blob(*where))) for where in ((0, 0, 3), (6, -5, 3), (-4, 3, 4.5))]
  for image in found:
    share = image[..., 0] / image.sum()
    middle = [(share * axis).sum() for axis in (y, x)]
    variance = (share * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2)).sum() / 2
    np.testing.assert_allclose(middle, 0, atol=0.1)
    np.testing.assert_allclose(np.sqrt(variance), 0.12 * 40, rtol=0.03)
    np.testing.assert_allclose(image, found[0], atol=0.04)
  np.testing.assert_array_equal(view(np.zeros((40, 40, 1), np.float32)), 0)
  with pytest.raises(ValueError, match=r"a spread above 0 and below 1, got 1.0"):
    centered(1.0)
