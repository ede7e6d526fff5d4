"""TFDS classification sets at random access: ArrayRecord files as they are, TFRecord files by an index of records."""

import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from metajax.data import pictures
from metajax.data.cache import cache_folder, write_arrays
from metajax.data.cache import read as read_cache
from metajax.data.images import decoded, image_and_label, plain, prepared, reason
from metajax.data.parts import PARTS, check_split, choose
from metajax.data.pictures import Pictures, fits_in_memory, in_threads
from metajax.data.pillow import BrokenPicture, read_encoded
from metajax.data.sources import from_arrays
from metajax.data.verified import Progress

TO_SKIP = "pass skip_broken=True (--skip-broken) to leave it out"
AT_ONCE = 1024  # records whose labels are read in a row
MOST_PER_BYTE = 100  # records, compressed together
HEADER, FOOTER = 12, 4  # bytes around a TFRecord's data: its length with a checksum, and a checksum


class Records(NamedTuple):
  """The records of some splits of a TFDS set, one after another.

  Attributes:
    name: of the set.
    files: in which they are.
    read: `rows -> [bytes]`.
    labels: of each, or zeros where no feature is named.
    rows_of: the rows of each split.
  """

  name: str
  files: list[str]
  read: Callable
  labels: np.ndarray
  rows_of: dict[str, np.ndarray]


def classification_set(
  name, split, *, size, data_dir=None, download=False, seed=0, skip_broken=False, least=1, preprocessing=None
):
  """The `Source` of a part of a TFDS image classification set: see `metajax.data.load`.

  The pictures are in the order of the set's files. Where they do not fit in memory they are `Pictures`.

  Raises:
    FileNotFoundError, ConnectionError, ValueError: as `metajax.data.load`.
  """
  builder = prepared(name, data_dir, download)
  image, label = image_and_label(builder.info)
  features, own = builder.info.features, tuple(builder.info.splits)
  check_split(name, split, own)
  used = [split.removeprefix("own/")] if split.startswith("own/") else [part for part in PARTS if part in own] or own
  records, names = read_records(builder, used, label), features[label].names
  rows, _, small = choose(name, split, records.labels, records.rows_of, seed, least)
  shape = (size, size, features[image].shape[-1] if preprocessing is None else 3)
  images, rows, broken = pictures_of(records, image, shape, rows, skip_broken, preprocessing)
  present, labels = np.unique(records.labels[rows], return_inverse=True)
  source = from_arrays(images, labels, classes=[names[c] for c in present])
  return source._replace(broken=broken, small_classes=tuple(names[c] for c in small))


def pictures_of(records, image, shape, rows, skip_broken, preprocessing=None):
  """Pictures uint8 `[rows, *shape]` of some records, read and decoded at once where they fit in memory.

  Returns:
    the pictures; the rows; and what was left out: with `skip_broken` those that cannot be decoded, all of which are
    then known at the start.

  Raises:
    ValueError: a picture cannot be decoded, or none can.
  """
  advice = "it could be at the start" if skip_broken else TO_SKIP
  decode = _decoder(records, image, shape, advice)
  if preprocessing is not None:
    decode = _preprocessor(records, image, preprocessing, advice)
  images, at_once = Pictures(decode, shape, rows), fits_in_memory(len(rows), shape)
  if not skip_broken:
    return (images[:] if at_once else images), rows, ()
  key = (image, shape, *(() if preprocessing is None else (preprocessing,)), hashlib.sha256(rows.tobytes()).hexdigest())
  broken = _remembered(records.files, key, lambda: {"broken": _broken(records, decode, rows)})["broken"]
  rows = rows[~np.isin(rows, broken)]
  if not len(rows):
    raise ValueError(f"expected a picture that can be decoded in {records.name}, got {len(broken)} that cannot")
  images = Pictures(decode, shape, rows)
  return (images[:] if at_once else images), rows, tuple(f"record {row} of {records.name}" for row in broken)


def _broken(records, decode, rows):
  """Those of some rows whose pictures cannot be decoded."""
  said, broken = Progress(f"verified {{}} of {len(rows):,} pictures of {records.name}", len(rows)), []

  def verify(chunk):
    some = rows[chunk]
    try:
      decode(some)
    except ValueError:
      for row in some:
        try:
          decode(np.array([row]))
        except ValueError:
          broken.append(row)
    said.advance(len(some))

  in_threads(verify, len(rows))()
  return np.array(sorted(broken), np.int64)


def read_records(builder, splits, label=None) -> Records:
  """The `Records` of some splits.

  Raises:
    FileNotFoundError, ValueError: files are not there, or cannot be read.
  """
  name, kind = builder.info.name, builder.info.file_format
  if kind not in (tfds.core.FileFormat.ARRAY_RECORD, tfds.core.FileFormat.TFRECORD):
    raise ValueError(f"{name!r} is prepared as {kind.value}: expected tfrecord or array_record")
  counts = [builder.info.splits[split].num_examples for split in splits]
  ends = np.cumsum(counts)
  files = [os.fspath(file) for split in splits for file in builder.info.splits[split].filepaths]
  long = sum(file.length for file in _status(files))
  if ends[-1] > MOST_PER_BYTE * long:
    raise ValueError(f"{name!r} is damaged: it says that it has {ends[-1]:,} records in files of {long:,} bytes")
  rows_of = {split: np.arange(end - count, end) for split, count, end in zip(splits, counts, ends, strict=True)}
  if kind == tfds.core.FileFormat.TFRECORD:
    index = _remembered(files, label, lambda: _tfrecord_index(files, label))
    read = _tfrecord_reader(files, index["places"])
  else:
    read = _array_record_reader(builder, splits)
    index = _remembered(files, label, lambda: {"labels": _read_labels(name, read, ends[-1], label)})
  if len(index["labels"]) != ends[-1]:
    raise ValueError(f"the files of {name!r} hold {len(index['labels'])} records, expected {ends[-1]}")
  return Records(name, files, read, index["labels"], rows_of)


def _remembered(files, of, make):
  """`make()`, {name: array}, kept in the cache where the files are long; when they change, so does its name."""
  status = _status(files)
  if sum(file.length for file in status) <= pictures.BYTES_IN_MEMORY:
    return make()
  key = [of, *((file, now.length, now.mtime_nsec) for file, now in zip(files, status, strict=True))]
  path = cache_folder() / f"records-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.npz"
  index = read_cache(path, dict)
  if index is None:
    index = make()
    write_arrays(path, index)
  return index


def _status(files):
  missing = next((file for file in files if not tf.io.gfile.exists(file)), None)
  if missing:
    raise FileNotFoundError(f"the record file {missing!r} is not there")
  return [tf.io.gfile.stat(file) for file in files]


def _array_record_reader(builder, splits):
  raw = tfds.decode.DeserializeMethod.RAW_BYTES
  sources = [builder.as_data_source(split=split, deserialize_method=raw) for split in splits]
  ends = np.cumsum([len(source) for source in sources])

  def read_one(row):
    of = int(np.searchsorted(ends, row, side="right"))
    try:
      return sources[of][row - ends[of] + len(sources[of])]
    except RuntimeError as error:  # ArrayRecord's for a damaged file
      raise ValueError(f"record {row} of {builder.info.name!r} cannot be read: {error}") from None

  return lambda rows: [read_one(row) for row in rows.tolist()]


def _read_labels(name, read, number, label):
  labels = []
  for first in range(0, number, AT_ONCE):
    rows = np.arange(first, min(first + AT_ONCE, number))
    try:
      labels.append(_labels(read(rows), label).numpy())
    except tf.errors.OpError as error:
      raise ValueError(f"records {rows[0]} to {rows[-1]} of {name!r} cannot be read: {reason(error)}") from None
  return np.concatenate(labels)


def _tfrecord_index(files, label):
  """One pass gives the label and the length of every record, and so its place: (number of the file, start, length)."""
  labels, places = [], []
  for number, file in enumerate(files):
    records = (
      tf.data.TFRecordDataset(file).batch(AT_ONCE).map(plain(lambda raw: (_labels(raw, label), tf.strings.length(raw))))
    )
    try:
      parts = list(records.prefetch(2).as_numpy_iterator())
    except tf.errors.OpError as error:
      raise ValueError(f"the record file {file!r} cannot be read: {reason(error)}") from None
    labels += [part[0] for part in parts]
    lengths = np.concatenate([*(part[1] for part in parts), []]).astype(np.int64)
    starts = np.cumsum(lengths + HEADER + FOOTER) - FOOTER - lengths
    places.append(np.stack([np.full_like(starts, number), starts, lengths], axis=1))
  return {"labels": np.concatenate(labels), "places": np.concatenate(places)}


def _tfrecord_reader(files, places):
  def read(rows):
    return [_bytes(files[number], start, length) for number, start, length in places[rows].tolist()]

  return read


def _labels(raw, label):
  if label is None:
    return tf.zeros(tf.size(raw), tf.int64)
  return tf.io.parse_example(raw, {label: tf.io.FixedLenFeature((), tf.int64)})[label]


def _bytes(path, start, length):
  # `gfile` reads buckets (gs://) too, but from a disk half a megabyte at a time.
  with tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0) as file:
    file.seek(start)
    return file.read(length)


def _preprocessor(records, image, preprocessing, advice):
  """`rows -> pictures`, made ready for a published network by Pillow, as files of one's own are."""
  spec = {image: tf.io.FixedLenFeature((), tf.string)}

  def decode_one(row):
    try:
      (raw,) = records.read(np.array([row]))
      return read_encoded(tf.io.parse_single_example(raw, spec)[image].numpy(), preprocessing=preprocessing)
    except (BrokenPicture, tf.errors.OpError) as error:
      said = error if isinstance(error, BrokenPicture) else reason(error)
      raise ValueError(f"the picture of record {row} of {records.name} cannot be decoded: {said}; {advice}") from None

  return lambda rows: np.stack([decode_one(row) for row in rows])


def _decoder(records, image, shape, advice):
  """`rows -> pictures`."""
  spec = {image: tf.io.FixedLenFeature((), tf.string)}
  one = lambda file: decoded(file, size=shape[0], channels=shape[-1])

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
  def decoded_all(raw):
    files = tf.io.parse_example(raw, spec)[image]
    return tf.map_fn(one, files, fn_output_signature=tf.TensorSpec(shape, tf.uint8), parallel_iterations=1)

  def decode(rows):
    try:
      return decoded_all(tf.constant(records.read(rows))).numpy()
    except tf.errors.OpError:
      return np.stack([decode_one(row) for row in rows])

  def decode_one(row):
    try:
      (raw,) = records.read(np.array([row]))
      return one(tf.io.parse_single_example(raw, spec)[image]).numpy()
    except tf.errors.OpError as error:
      raise ValueError(
        f"the picture of record {row} of {records.name} cannot be decoded: {reason(error)}; {advice}"
      ) from None

  return decode
