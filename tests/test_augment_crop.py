"""Crops, flips and recipes: crops are Pillow's, of areas and shapes as drawn; views are the same on any devices."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp, kstest

from metajax.augment import augment_batch
from metajax.augment.image import (
  crop_box,
  handwriting,
  random_flip,
  random_resized_crop,
  resized_part,
  rotation,
  simclr,
  simclr_cifar,
)
from metajax.mesh import make_mesh, shard_batch

IMAGE = np.random.default_rng(0).random((21, 30, 3)).astype(np.float32)
RECIPES = {"simclr": simclr(), "simclr_cifar": simclr_cifar(), "handwriting": handwriting()}


part_of = jax.jit(resized_part, static_argnums=2)


def boxes(sides, area, aspect, number=2000):
  keys = jax.random.split(jax.random.key(0), number)
  return np.float64(jax.jit(jax.vmap(lambda key: crop_box(key, sides, area, aspect)))(keys))


@pytest.mark.parametrize("box", [(2.25, 3.5, 12.0, 20.5), (0, 0, 21, 30), (4.0, 5.0, 3.0, 4.0)])
@pytest.mark.parametrize("sides", [(8, 8), (21, 30), (32, 16)])
def test_a_crop_is_that_of_pillow(box, sides):
  top, left, height, width = box
  found = np.asarray(part_of(IMAGE, np.array(box, np.float32), sides))
  for channel in range(3):
    whole = Image.fromarray(IMAGE[..., channel], "F")
    part = whole.resize(sides[::-1], Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    np.testing.assert_allclose(found[..., channel], np.asarray(part), atol=2e-6)


def test_crops_have_areas_aspects_and_places_as_drawn():
  top, left, height, width = boxes((40, 50), (0.1, 0.4), (3 / 4, 4 / 3)).T
  assert kstest(height * width / 2000, "uniform", (0.1, 0.3)).pvalue > 1e-3
  assert kstest(np.log(width / height), "uniform", (np.log(3 / 4), np.log(16 / 9))).pvalue > 1e-3
  assert kstest(top / (40 - height), "uniform").pvalue > 1e-3 and kstest(left / (50 - width), "uniform").pvalue > 1e-3


def rejected(random, sides, area, aspect):
  """A box as the definition has it: drawn until one fits, ten times at most."""
  for _ in range(10):
    size, ratio = np.prod(sides) * random.uniform(*area), np.exp(random.uniform(*np.log(aspect)))
    height, width = np.sqrt(size / ratio), np.sqrt(size * ratio)
    if height <= sides[0] and width <= sides[1]:
      return height, width
  return min(sides), min(sides)


def test_parts_that_do_not_fit_are_drawn_again():
  random = np.random.default_rng(0)
  _, _, height, width = boxes((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)).T
  tall, wide = np.array([rejected(random, (32, 32), (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]).T
  assert ks_2samp(height * width, tall * wide).pvalue > 1e-3 and ks_2samp(width / height, wide / tall).pvalue > 1e-3
  top, left, height, width = boxes((20, 80), (1.0, 1.0), (0.5, 2.0), 5).T  # of which none fits
  np.testing.assert_allclose([top, left, height, width], np.tile([[0], [20], [20], [40]], 5), atol=1e-4)


def test_a_whole_crop_is_the_image_and_a_flip_its_mirror():
  whole = random_resized_crop(area=(1.0, 1.0), aspect=(30 / 21, 30 / 21))
  both = jax.jit(lambda key: (whole(key, IMAGE), random_flip(1.0)(key, IMAGE)))
  found, mirrored = both(jax.random.key(0))
  np.testing.assert_allclose(found, IMAGE, atol=1e-5)
  np.testing.assert_array_equal(mirrored, IMAGE[:, ::-1])
  views = np.asarray(jax.jit(jax.vmap(random_flip(), (0, None)))(jax.random.split(jax.random.key(0), 1000), IMAGE))
  assert np.mean([np.array_equal(view, IMAGE) for view in views]) == pytest.approx(0.5, abs=0.06)


def test_a_rotation_turns_by_any_angle_up_to_the_largest():
  line = np.zeros((33, 33, 1), np.float32)
  line[16, 20:] = 1  # from the middle to the right
  turned = jax.jit(jax.vmap(rotation(90.0), (0, None)))
  views = np.asarray(turned(jax.random.split(jax.random.key(0), 500), line))[..., 0]
  y, x = np.mgrid[:33, :33] - 16
  angles = np.degrees(np.arctan2((views * y).sum((1, 2)), (views * x).sum((1, 2))))
  assert kstest(angles, "uniform", (-90, 180)).pvalue > 1e-3


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("image", [IMAGE, IMAGE[:5, :7, :1]], ids=["colored", "tiny and gray"])
def test_augment_of_a_recipe_stay_in_range_and_differ(image, name):
  view = RECIPES[name]
  views = np.asarray(jax.jit(augment_batch, static_argnums=0)(view, jax.random.key(0), np.tile(image, (16, 1, 1, 1))))
  assert views.shape == (16, *image.shape) and views.min() >= 0 and views.max() <= 1 + 1e-6
  assert len({one.tobytes() for one in views}) == 16


@pytest.mark.parametrize("name", RECIPES)
def test_augment_are_the_same_alone_in_a_batch_and_on_any_number_of_devices(name):
  images = np.random.default_rng(1).random((8, 16, 16, 3)).astype(np.float32)
  key = jax.random.key(3)
  views = jax.jit(lambda key, x: augment_batch(RECIPES[name], key, x))
  found = views(key, images)
  for row in (0, 5):
    alone = jax.jit(RECIPES[name])(jax.random.fold_in(key, row), images[row])
    np.testing.assert_allclose(found[row], alone, atol=1e-5)
  with jax.set_mesh(make_mesh(8)):
    np.testing.assert_allclose(views(key, shard_batch(images)), found, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"area": (0.0, 1.0)}, {"area": (0.5, 1.5)}, {"aspect": (2.0, 1.0)}, {"size": 0}])
def test_crops_that_cannot_be_are_refused(arguments):
  with pytest.raises(ValueError, match="expected"):
    random_resized_crop(**arguments)
