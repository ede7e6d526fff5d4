"""TFDS records with random access: ArrayRecord files directly, TFRecord files through an index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.data._tensorflow import tf, tfds
from metajax.data.builtin.cache import cache_folder, write_arrays
from metajax.data.builtin.cache import read as read_cache
from metajax.data.files import lazy_images
from metajax.data.pipeline import plain
from metajax.data.tfds.decoding import reason

AT_ONCE = 1024  # records whose labels are read together
MOST_PER_BYTE = 100  # largest plausible number of compressed records per byte
HEADER, FOOTER = 12, 4  # bytes around a TFRecord's data: its length with a checksum, and a checksum


class Records(NamedTuple):
  """The concatenated records of some splits of a TFDS set.

  Attributes:
    name: name of the set.
    files: paths of the record files.
    read: `rows -> [bytes]`.
    labels: label of each record; zeros if no label feature is given.
    rows_of: rows of each split.
  """

  name: str
  files: list[str]
  read: Callable
  labels: np.ndarray
  rows_of: dict[str, np.ndarray]


def read_records(builder: tfds.core.DatasetBuilder, splits: Sequence[str], label: str | None = None) -> Records:
  """The `Records` of some splits.

  Raises:
    FileNotFoundError, ValueError: if files are missing, or cannot be read.
  """
  name, kind = builder.info.name, builder.info.file_format
  if kind not in (tfds.core.FileFormat.ARRAY_RECORD, tfds.core.FileFormat.TFRECORD):
    raise ValueError(f"{name!r} is prepared as {kind.value}: expected tfrecord or array_record")
  counts = [builder.info.splits[split].num_examples for split in splits]
  ends = np.cumsum(counts)
  files = [os.fspath(file) for split in splits for file in builder.info.splits[split].filepaths]
  long = sum(file.length for file in _status(files))
  if ends[-1] > MOST_PER_BYTE * long:
    raise ValueError(f"{name!r} is damaged: it claims {ends[-1]:,} records in files of {long:,} bytes")
  rows_of = {split: np.arange(end - count, end) for split, count, end in zip(splits, counts, ends, strict=True)}
  if kind == tfds.core.FileFormat.TFRECORD:
    index = remembered(files, label, lambda: _tfrecord_index(files, label))
    read = _tfrecord_reader(files, index["places"])
  else:
    read = _array_record_reader(builder, splits)
    index = remembered(files, label, lambda: {"labels": _read_labels(name, read, ends[-1], label)})
  if len(index["labels"]) != ends[-1]:
    raise ValueError(f"the files of {name!r} hold {len(index['labels'])} records, expected {ends[-1]}")
  return Records(name, files, read, index["labels"], rows_of)


def remembered(files: Sequence[str], of: Any, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """`make()`, `{name: array}`, cached on disk if the files are large; the cache's name changes with the files."""
  status = _status(files)
  if sum(file.length for file in status) <= lazy_images.BYTES_IN_MEMORY:
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
    raise FileNotFoundError(f"the record file {missing!r} is missing")
  return [tf.io.gfile.stat(file) for file in files]


def _array_record_reader(builder, splits):
  raw = tfds.decode.DeserializeMethod.RAW_BYTES
  sources = [builder.as_data_source(split=split, deserialize_method=raw) for split in splits]
  ends = np.cumsum([len(source) for source in sources])

  def read_one(row):
    of = int(np.searchsorted(ends, row, side="right"))
    try:
      return sources[of][row - ends[of] + len(sources[of])]
    except RuntimeError as error:  # raised by ArrayRecord for a damaged file
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
  """The label and place of every record, (file number, start, length), from one pass over labels and lengths."""
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
  # `gfile` also reads buckets (gs://), but reads disks half a megabyte at a time.
  with tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0) as file:
    file.seek(start)
    return file.read(length)
