"""Captioned images with random access: TFDS sets, and user-supplied images with a table of captions."""

import os
from typing import Any

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf, tfds
from metajax.data.files.opening import checked_name, is_path
from metajax.data.files.user_images import source_of
from metajax.data.load import check_how
from metajax.data.shards.captioned import ImageTexts, captioned_shards
from metajax.data.shards.patterns import is_shards
from metajax.data.source import ImageDataset, from_arrays
from metajax.data.splits import PARTS, check_split, choose
from metajax.data.text.caption_files import read_captions
from metajax.data.tfds.builder import prepared
from metajax.data.tfds.classification import images_of_records
from metajax.data.tfds.decoding import reason
from metajax.data.tfds.random_access import read_records
from metajax.paths import AnyPath
from metajax.types import Preprocessing

# Names of text features, in order of preference.
TEXTS = ("captions", "caption", "texts", "text", "title", "description", "alt", "tags", "keywords")


def load_captioned(
  name: AnyPath,
  split: str = "train",
  *,
  size: int = 64,
  preprocessing: Preprocessing | None = None,
  data_dir: AnyPath | None = None,
  download: bool = False,
  seed: int = 0,
  skip_unreadable: bool = False,
  originals: bool = False,
) -> ImageDataset | ImageTexts:
  """Loads one part of a set of captioned images; each image is a separate class.

  - a TFDS set, e.g. "flickr8k", "emoji" or "coco_captions": one 8-bit image, and texts in features named caption,
    captions, text, title, description, tags or the like; each is a text, a sequence of texts, or a sequence of
    dictionaries with a text. A ClassLabel, if any, is the superclass.
  - user-supplied images: a `.csv` file with the columns path and caption, a `.jsonl` file of objects with "path" and
    "caption" or "captions", with one or more lines per image; or a folder with `captions.csv` or `captions.jsonl`.
    Paths are relative to the file's folder; a column or key "split" names the official splits.
  - shards, `shards/{00000..01023}.tar`, `shards/*.tar` or their folder, as img2dataset writes them: images and captions
    are both read on access.

  "train", "validation" and "test" are official splits if the set has at least the first and the last; otherwise images
  are distributed by `seed` (see `metajax.data.load`). "official/train" is always the official split.

  Args:
    name: name of the data set, or a path: it begins with "/", "./", "../" or "~", ends in ".csv", ".jsonl" or like a
      shard, or is a folder.
    split, size, preprocessing, data_dir, download, seed, skip_unreadable, originals: as for `metajax.data.load`.

  Returns:
    An `ImageDataset`, whose `captions` hold the texts of each image, in order; of shards, `ImageTexts`.

  Raises:
    FileNotFoundError, ConnectionError, PermissionError, NotADirectoryError: as for `metajax.data.load`.
    ValueError: if an argument is out of range, the set has no image or text feature, an image has no caption, or a line
      is malformed.
  """
  name = checked_name(name, buckets=True)
  size = check_how(split, size, seed, data_dir, preprocessing=preprocessing)
  checks.flags(download=download, skip_unreadable=skip_unreadable, originals=originals)
  how: dict[str, Any] = {"size": size, "seed": seed, "skip_unreadable": skip_unreadable, "preprocessing": preprocessing}
  if is_shards(name):  # whose images are read from their originals in any case
    return captioned_shards(name, split, **how)
  if is_path(name) or name.endswith(".jsonl") or (not download and os.path.isdir(name)):
    table, captions = read_captions(name)
    source = source_of(table, split, originals=originals, **how)
    return source._replace(captions=tuple(captions[path] for path in source.classes))
  return _captioned_set(name, split, size, data_dir, download, seed, skip_unreadable, preprocessing, originals)


def _captioned_set(name, split, size, data_dir, download, seed, skip_unreadable, preprocessing, originals):
  builder = prepared(name, data_dir, download)
  features, own = builder.info.features, tuple(builder.info.splits)
  check_split(name, split, own)
  image, texts, group = _features(builder.info)
  used = (
    [split.removeprefix("official/")]
    if split.startswith("official/")
    else [part for part in PARTS if part in own] or own
  )
  records = read_records(builder, used)
  captions, superclasses = _texts(builder, used, image, texts, group)
  rows, *_ = choose(name, split, np.arange(len(captions)), records.rows_of, seed)
  shape = (size, size, features[image].shape[-1] if preprocessing is None else 3)
  bare = next((row for row in rows if not captions[row]), None)
  if bare is not None:
    raise ValueError(f"expected a caption for every image of {name!r}, got none for record {bare}")
  images, rows, unreadable = images_of_records(records, image, shape, rows, skip_unreadable, preprocessing, originals)
  source = from_arrays(
    images,
    np.arange(len(rows)),
    classes=[str(row) for row in rows],
    superclasses=[superclasses[row] for row in rows],
    captions=[captions[row] for row in rows],
  )
  return source._replace(unreadable=unreadable)


def _features(info):
  """The names of a set's image feature, text features, and class feature (None if there is none)."""
  features = dict(info.features.items()) if hasattr(info.features, "items") else {}

  def of_kind(kind):
    return [key for key, feature in features.items() if isinstance(feature, kind)]

  images, labels = of_kind(tfds.features.Image), of_kind(tfds.features.ClassLabel)
  texts = [key for key in TEXTS if key in features and _text_of(features[key]) is not None]
  if len(images) != 1 or features[images[0]].np_dtype != np.uint8 or not texts:
    given = {key: type(feature).__name__ for key, feature in features.items()}
    raise ValueError(
      f"{info.name!r} is not a set of captioned images: expected one 8-bit Image and texts named {', '.join(TEXTS)}, "
      f"got the features {given}"
    )
  return images[0], texts, labels[0] if len(labels) == 1 else None


def _text_of(feature):
  """A function that extracts the texts of a feature's value, or None if the feature holds no texts."""

  def is_text(f):
    return isinstance(f, tfds.features.Text)

  if is_text(feature):
    return lambda value: [value]
  if not isinstance(feature, tfds.features.Sequence):
    return None
  if is_text(feature.feature):
    return list
  if isinstance(feature.feature, tfds.features.FeaturesDict):
    keys = [key for key in TEXTS if key in feature.feature and is_text(feature.feature[key])]
    return (lambda value: list(value[keys[0]])) if keys else None
  return None


def _texts(builder, splits, image, texts, group):
  """The captions and the superclass of every record of some splits, in the order of the files."""
  features, captions, superclasses = builder.info.features, [], []
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  wanted = tfds.decode.PartialDecoding({key: features[key] for key in (*texts, *([group] if group else []))})
  for split in splits:
    for record in _each(builder, builder.as_dataset(split=split, decoders=wanted, read_config=config)):
      said = [text.decode("utf-8", "replace") for key in texts for text in _text_of(features[key])(record[key])]
      captions.append(tuple(dict.fromkeys(text.strip() for text in said if text.strip())))
      superclasses.append(features[group].int2str(int(record[group])) if group else "")
  return captions, superclasses


def _each(builder, dataset):
  try:
    yield from tfds.as_numpy(dataset)
  except tf.errors.OpError as error:
    raise ValueError(f"the records of {builder.info.name!r} cannot be read: {reason(error)}") from None
