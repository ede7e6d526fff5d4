"""Mixtures of sources: each as often as its weight says, in epochs of its own, as pure functions of the step."""

import itertools
import sys

import numpy as np
import pytest
from PIL import Image
from tar_shards import write_shards

from metajax import data
from metajax.data import pipeline
from metajax.data._tensorflow import tf

TOKENIZER = data.train_tokenizer(["a0 b1 2 3"], 300)
SIZES, WEIGHTS = (7, 4200, 40), (0.1, 0.65, 0.25)  # a table and, of the second, a cipher of the rows of an epoch


def source(first, number, classes=("a", "b")):
  images = (first + np.arange(number, dtype=np.int64))[:, None, None, None]
  pixels = np.concatenate([images // 256, images % 256], 3).astype(np.uint8)  # the image's number, in two channels
  return data.from_arrays(pixels, np.arange(number) % len(classes), classes=classes)


FIRST = np.cumsum([0, *SIZES])
SOURCES = [source(first, number) for first, number in zip(FIRST, SIZES, strict=False)]


def photos(folder, seed):
  """A folder of noise, each image a class of its own, whose originals are kept."""
  noise = np.random.default_rng(seed)
  for number in range(4):
    (folder / f"{folder.name}{number}").mkdir(parents=True)
    pixels = noise.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{folder.name}{number}" / "0.png")
  return data.load(folder, "official/all", size=8, originals=True)


def numbers_of(batch):
  pixels = batch.inputs.astype(int)
  return pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 0, 1]


def batches_of(batch_size=48, seed=5):
  return data.train_batches(data.mixture(SOURCES, WEIGHTS), batch_size=batch_size, seed=seed)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
  monkeypatch.setattr(sys.modules[data.Mixture.__module__], "LARGEST_TABLE", 1000)


def test_every_thousand_rows_hold_each_source_as_its_weight_says_and_its_rows_once_an_epoch():
  rows = np.concatenate([numbers_of(batch) for batch in itertools.islice(batches_of(500)(), 28)])
  of = np.searchsorted(FIRST, rows, side="right") - 1
  for part in np.split(of, 14):
    assert np.bincount(part).tolist() == [100, 650, 250]
  for k, (first, number) in enumerate(zip(FIRST, SIZES, strict=False)):
    stream = rows[of == k] - first
    epochs = stream[: len(stream) // number * number].reshape(-1, number)
    assert (np.sort(epochs) == np.arange(number)).all() and (epochs[0] != epochs[1]).any()
  assert (of[:1000] != of[1000:2000]).mean() > 0.3  # another order in every thousand


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_a_mixture_is_the_same_from_any_step_and_on_any_number_of_hosts(hosts):
  whole = list(itertools.islice(batches_of()(), 50))
  for step in (0, 20, 49):
    shares = [next(batches_of()(step, (host, hosts))) for host in range(hosts)]
    for part in (0, 1):
      np.testing.assert_array_equal(np.concatenate([share[part] for share in shares]), whole[step][part])
  far = next(batches_of()(2**40))  # nothing before it is drawn
  assert far.inputs.shape == whole[0].inputs.shape
  assert (numbers_of(next(batches_of(seed=6)())) != numbers_of(whole[0])).any()


def test_classes_of_one_name_are_one_class():
  mixed = data.mixture([source(0, 6), source(6, 6, ("b", "c"))], [1, 1])
  batch = next(data.train_batches(mixed, batch_size=100)())
  wanted = [number % 2 if number < 6 else 1 + number % 2 for number in numbers_of(batch)]
  np.testing.assert_array_equal(batch.labels, np.eye(3, dtype=np.float32)[wanted])


@pytest.mark.parametrize("lengths", [(), (4, 8)])
def test_pairs_of_shards_are_mixed_with_their_texts(tmp_path, lengths):
  def shifted(by, words):
    return lambda number, members: [members[0], (members[1][0], f"{words}caption {number + by}".encode())]

  tokenizer = data.train_tokenizer(["caption 0123456789 one two three four"], 300)
  patterns = [
    write_shards(tmp_path / "a", shards=1, each=9, change=shifted(0, "")),
    write_shards(tmp_path / "b", shards=2, each=20, change=shifted(100, "one two three four one two ")),
  ]
  sources = [data.load_captioned(pattern, "official/all", size=8) for pattern in patterns]
  batches = data.image_texts(data.mixture(sources, [0.5, 0.5]), tokenizer, batch_size=8, max_length=16, lengths=lengths)
  whole = list(itertools.islice(batches(), 12))
  for pair in whole:
    for image, tokens in zip(pair.first, pair.second, strict=True):
      text = tokenizer.text(tokens)
      assert tokens.shape[-1] == 16 and int(text.split()[-1]) % 100 == int(image[0, 0, 0])
  halves = [next(batches(7, (host, 2))) for host in (0, 1)]
  for part in (0, 1):
    np.testing.assert_array_equal(np.concatenate([half[part] for half in halves]), whole[7][part])
  with pytest.raises(ValueError, match=r"a mixture of labeled images, each an ImageDataset, got an ImageTexts"):
    data.train_batches(data.mixture(sources, [1, 1]), batch_size=2)


@pytest.mark.parametrize("lengths", [(), (4, 8)])
def test_captioned_images_and_pairs_of_shards_are_mixed(tmp_path, lengths):
  tokenizer = data.train_tokenizer(["caption 0123456789 one two three four"], 300)
  pairs = data.load_captioned(write_shards(tmp_path / "a", shards=1, each=9), "official/all", size=8)
  pixels = np.full((30, 8, 8, 3), np.arange(100, 130)[:, None, None, None], np.uint8)
  captions = [tuple(f"{'one two ' * k}{100 + 2 * c + k}" for k in range(2)) for c in range(15)]
  captioned = data.from_arrays(pixels, np.arange(30) // 2, captions=captions)
  how = {"batch_size": 16, "max_length": 16, "lengths": lengths, "seed": 2}
  batches = data.image_texts(data.mixture([pairs, captioned], [0.25, 0.75]), tokenizer, **how)
  whole, seen = list(itertools.islice(batches(), 125)), set()
  for image, tokens in ((i, t) for pair in whole for i, t in zip(*pair, strict=True)):
    value, number = int(image[0, 0, 0]), int(tokenizer.text(tokens).split()[-1])
    assert value == number if value < 100 else value // 2 == number // 2
    seen.add((value, number))
  assert len(seen) == 9 + 15 * 4  # each image of a class with each of its captions
  assert sum((pair.first[:, 0, 0, 0] >= 100).sum() for pair in whole) == 1500
  halves = [next(batches(7, (host, 2))) for host in (0, 1)]
  for part in (0, 1):
    np.testing.assert_array_equal(np.concatenate([half[part] for half in halves]), whole[7][part])


def test_crops_of_a_mixture_are_those_of_its_rows_at_their_places_in_the_batch(tmp_path):
  crop = data.RandomCrop(size=6, area=(0.3, 0.8), views=2)
  sources = [photos(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))]
  mixed = data.mixture(sources, [0.5, 0.5])
  names = {name: i for i, name in enumerate(n for s in sources for n in s.classes)}
  batches = data.train_batches(mixed, batch_size=12, seed=4, crop=crop)
  whole = list(itertools.islice(batches(), 4))
  draws = np.asarray(pipeline.crop_draws(12, crop, 4, tf.constant(3, tf.int64)))
  files = [one.images.take([row]) for one in sources for row in range(len(one.labels))]
  for place, label in enumerate(whole[3].labels.argmax(-1)):
    found, _ = files[label].start_crops(np.array([0]), draws[place : place + 1], crop)()
    np.testing.assert_array_equal(found[0], [whole[3].inputs.first[place], whole[3].inputs.second[place]])
  assert len(names) == len(files) and set(whole[3].labels.argmax(-1)) & set(range(4)) != set()
  shares = [next(batches(3, (host, 3))) for host in range(3)]
  np.testing.assert_array_equal(np.concatenate([share.inputs.second for share in shares]), whole[3].inputs.second)
  one = crop._replace(views=1)
  pairs = data.image_texts(mixed, TOKENIZER, batch_size=8, seed=4, crop=one)
  again = np.concatenate([next(pairs(2, (host, 2))).first for host in (0, 1)])
  np.testing.assert_array_equal(again, next(pairs(2)).first)
  with pytest.raises(ValueError, match="expected images with originals"):
    next(data.train_batches(data.mixture(SOURCES, WEIGHTS), batch_size=4, crop=crop)())
