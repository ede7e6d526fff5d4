"""Crops of shards with broken files: the same from any step and on any hosts, each beside its own caption."""

import gc
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from metajax import data
from metajax.data import RandomCrop
from metajax.data.files.crops import DRAWS
from tests.tar_shards import write_shards

BROKEN, BARE, NUMBER = (5, 6, 20), (9, 21), 28  # JPEGs that end early, and captions that are empty
CAPTIONS = [f"caption {number}" for number in range(NUMBER)]


def jpeg(number):
  """An image of noise, so that half of its bytes are half of its rows, whose mean tells its number."""
  noise = np.random.default_rng(number).integers(-8, 9, (32, 32, 3)) + 16 + 8 * number
  file = io.BytesIO()
  Image.fromarray(noise.astype(np.uint8)).save(file, "JPEG", quality=95)
  content = file.getvalue()
  return content[: len(content) // 3] if number in BROKEN else content


def change(number, members):
  text = b" \n" if number in BARE else CAPTIONS[number].encode()
  return [(f"{number:05d}.jpg", jpeg(number)), (f"{number:05d}.txt", text), (f"{number:05d}.cls", b"%d" % (number % 3))]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
  return write_shards(tmp_path_factory.mktemp("shards"), 2, NUMBER // 2, change)


@pytest.fixture(scope="module")
def tokenizer():
  return data.train_tokenizer(CAPTIONS, 300)


def pairs(pattern, tokenizer):
  """Batches of a source of their own, which has no history."""
  source = data.load_captioned(pattern, "official/all", size=8)
  crop = RandomCrop(8, area=(1, 1))
  return data.image_texts(source, tokenizer=tokenizer, batch_size=8, max_length=16, seed=2, crop=crop)


def labeled(pattern, _):
  source = data.load(pattern, "official/all", size=8, originals=True)
  return data.train_batches(source, batch_size=8, seed=2, crop=RandomCrop(8, area=(0.2, 1)))


@pytest.mark.filterwarnings("ignore:.*took their place", "ignore:.*takes its place")
@pytest.mark.parametrize("kind", [pairs, labeled])
def test_crops_of_broken_shards_are_a_function_of_the_step(kind, pattern, tokenizer):
  stream = kind(pattern, tokenizer)()
  whole = [next(stream) for _ in range(8)]  # all rows twice
  for start in (0, 3, 7):
    for hosts in (1, 2, 4):
      shares = [next(kind(pattern, tokenizer)(start, (host, hosts))) for host in range(hosts)]
      for part, expected in enumerate(whole[start]):
        np.testing.assert_array_equal(np.concatenate([share[part] for share in shares]), expected)


@pytest.mark.filterwarnings("ignore:.*took their place", "ignore:.*takes its place")
def test_each_crop_is_beside_the_caption_of_its_own_image(pattern, tokenizer):
  stream, seen = pairs(pattern, tokenizer)(), set()
  texts = tokenizer(CAPTIONS, 16).tolist()
  for images, tokens in (next(stream) for _ in range(8)):
    numbers = np.rint((images.mean((1, 2, 3)) - 16) / 8).astype(int).tolist()
    assert tokens.tolist() == [texts[number] for number in numbers]
    seen |= set(numbers)
  assert seen == set(range(NUMBER)) - {*BROKEN, *BARE}


def test_what_crops_replace_is_named_and_counted(pattern):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    source = data.load_captioned(pattern, "official/all", size=8)
    crops = source.images.start_crops(np.arange(NUMBER), np.full((NUMBER, 1, DRAWS), 0.999), RandomCrop(8))
    _, used = crops()
    del source, crops
    gc.collect()
  assert np.flatnonzero(used != np.arange(NUMBER)).tolist() == sorted((*BROKEN, *BARE))
  said = [str(warning.message) for warning in caught]
  for number in (*BROKEN, *BARE):
    assert sum(f"{number:05d}." in one and "the next one takes its place" in one for one in said) == 1, said
  assert any("5 samples of" in one and "could not be read, and others took their place" in one for one in said), said
