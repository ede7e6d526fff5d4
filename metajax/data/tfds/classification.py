"""TFDS image classification sets as sources."""

import functools
import hashlib

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.class_split import BY_DEFAULT, ClassSplit
from metajax.data.files.image_file import UnreadableImage, read_encoded, read_original
from metajax.data.files.jpeg import is_turned
from metajax.data.files.lazy_images import LazyImages, Originals, fits_in_memory, in_threads
from metajax.data.files.opening import TO_SKIP
from metajax.data.files.verification import Progress
from metajax.data.pipeline import constant
from metajax.data.source import ImageDataset, from_arrays
from metajax.data.splits import PARTS, check_split, choose
from metajax.data.tfds.builder import image_and_label, prepared
from metajax.data.tfds.decoding import decoded, reason, resized
from metajax.data.tfds.random_access import Records, read_records, remembered
from metajax.paths import AnyPath
from metajax.types import Preprocessing


def classification_set(
  name: str,
  split: str,
  *,
  size: int,
  data_dir: AnyPath | None = None,
  download: bool = False,
  seed: int = 0,
  skip_unreadable: bool = False,
  least: int = 1,
  preprocessing: Preprocessing | None = None,
  class_split: ClassSplit = BY_DEFAULT,
  originals: bool = False,
) -> ImageDataset:
  """The `ImageDataset` of one part of a TFDS image classification set, for `metajax.data.load`.

  "train", "validation" and "test" are the official splits if these share no class; a missing validation split then
  takes a tenth of the training classes, at least 5, away from "train". Otherwise all classes are distributed by `seed`:
  a fifth, at least 2, to "validation", as many to "test", the rest to "train". "official/train" or "official/test" is
  the official split, for training and probing on the same classes. Images without a label (-1) are dropped. A
  custom `class_split` distributes the images of all official splits.

  The images are in the order of the set's record files (TFRecord or ArrayRecord). Sets of more than 1 GiB, decoded,
  stay on disk as `LazyImages`.

  Raises:
    FileNotFoundError, ConnectionError, ValueError: as for `metajax.data.load`.
  """
  builder = prepared(name, data_dir, download)
  image, label = image_and_label(builder.info)
  features, own = builder.info.features, tuple(builder.info.splits)
  check_split(name, split, own)
  used = (
    [split.removeprefix("official/")]
    if split.startswith("official/")
    else [part for part in PARTS if part in own] or own
  )
  records, names = read_records(builder, used, label), features[label].names
  rows, _, small = choose(name, split, records.labels, records.rows_of, seed, least, class_split, names)
  shape = (size, size, features[image].shape[-1] if preprocessing is None else 3)
  images, rows, unreadable = images_of_records(records, image, shape, rows, skip_unreadable, preprocessing, originals)
  present, labels = np.unique(records.labels[rows], return_inverse=True)
  source = from_arrays(images, labels, classes=[names[c] for c in present])
  return source._replace(unreadable=unreadable, small_classes=tuple(names[c] for c in small))


def images_of_records(
  records: Records,
  image: str,
  shape: tuple[int, int, int],
  rows: np.ndarray,
  skip_unreadable: bool,
  preprocessing: Preprocessing | None = None,
  originals: bool = False,
) -> tuple[np.ndarray | LazyImages, np.ndarray, tuple[str, ...]]:
  """Images uint8 `[rows, *shape]` of some records, decoded at once if they fit in memory and no `originals` are asked
  for, otherwise on access.

  Returns:
    The images; their rows; and the names of the skipped records. With `skip_unreadable` all records are decoded once at
    the start, and those that cannot be decoded are skipped.

  Raises:
    ValueError: if an image cannot be decoded, or (with `skip_unreadable`) none can.
  """
  advice = "it could be at the start" if skip_unreadable else TO_SKIP
  decode = _decoder(records, image, shape, advice)
  if preprocessing is not None:
    decode = _preprocessor(records, image, preprocessing, advice)
  lazy = functools.partial(LazyImages, decode, shape, originals=Originals(_originals(records, image)))
  images, in_memory = lazy(rows), not originals and fits_in_memory(len(rows), shape)
  if not skip_unreadable:
    return (images[:] if in_memory else images), rows, ()
  key = (image, shape, *(() if preprocessing is None else (preprocessing,)), hashlib.sha256(rows.tobytes()).hexdigest())
  unreadable = remembered(records.files, key, lambda: {"broken": _unreadable(records, decode, rows)})["broken"]
  rows = rows[~np.isin(rows, unreadable)]
  if not len(rows):
    raise ValueError(f"expected an image that can be decoded in {records.name}, got {len(unreadable)} that cannot")
  images = lazy(rows)
  return (images[:] if in_memory else images), rows, tuple(f"record {row} of {records.name}" for row in unreadable)


def _unreadable(records, decode, rows):
  """The rows whose images cannot be decoded."""
  said, unreadable = Progress(f"verified {{}} of {len(rows):,} images of {records.name}", len(rows)), []

  def verify(chunk):
    some = rows[chunk]
    try:
      decode(some)
    except ValueError:
      for row in some:
        try:
          decode(np.array([row]))
        except ValueError:
          unreadable.append(row)
    said.advance(len(some))

  in_threads(verify, len(rows))()
  return np.array(sorted(unreadable), np.int64)


def _preprocessor(records, image, preprocessing, advice):
  """`rows -> images`, preprocessed for a published network by Pillow, like user-supplied files."""
  originals = _originals(records, image)

  def decode_one(row):
    try:
      (file,) = originals(np.array([row]))
      return read_encoded(file, size=preprocessing.pixels, channels=3, preprocessing=preprocessing)
    except (UnreadableImage, tf.errors.OpError) as error:
      raise ValueError(_undecodable(records, row, error, advice)) from None

  return lambda rows: np.stack([decode_one(row) for row in rows])


def _undecodable(records, row, error, advice) -> str:
  said = error if isinstance(error, UnreadableImage) else reason(error)
  return f"the image of record {row} of {records.name} cannot be decoded: {said}; {advice}"


def _originals(records, image):
  """`rows -> [bytes]`: the encoded images of records."""
  spec = {image: tf.io.FixedLenFeature((), tf.string)}
  return lambda rows: tf.io.parse_example(records.read(rows), spec)[image].numpy().tolist()


def _decoder(records, image, shape, advice):
  """`rows -> images`, decoded by TensorFlow, and turned upright where EXIF says so."""
  originals = _originals(records, image)

  def one(file):
    return decoded(file, size=shape[0], channels=shape[-1])

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
  def decoded_all(files):
    return tf.map_fn(one, files, fn_output_signature=tf.TensorSpec(shape, tf.uint8), parallel_iterations=1)

  def decode(rows):
    try:
      files = originals(rows)
      images = decoded_all(tf.constant(files)).numpy()
    except tf.errors.OpError:
      return np.stack([decode_one(row) for row in rows])
    for i in np.flatnonzero([is_turned(file) for file in files]):
      images[i] = decode_one(rows[i])
    return images

  def decode_one(row):
    try:
      (file,) = originals(np.array([row]))
      if not is_turned(file):
        return one(file).numpy()
      upright = np.asarray(read_original(file, channels=shape[-1]))
      return resized(constant(upright.reshape(*upright.shape[:2], -1)), size=shape[0]).numpy()
    except (UnreadableImage, tf.errors.OpError) as error:
      raise ValueError(_undecodable(records, row, error, advice)) from None

  return decode
