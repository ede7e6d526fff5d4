"""The samples of TFRecord and ArrayRecord files of `tf.train.Example`, given as paths."""

import bisect
import functools
import importlib
import os
import struct

import numpy as np

from metajax.data._tensorflow import tf
from metajax.data.files.image_file import UnreadableImage
from metajax.data.files.opening import open_regular
from metajax.data.shards.samples import Samples
from metajax.data.shards.tar_samples import official_rows, read_bytes, stamp_of
from metajax.data.tfds.random_access import FOOTER, HEADER, remembered

# Names of features, in order of preference: img2dataset's, those of TFDS and those of older converters.
IMAGE, TEXT = ("jpg", "image", "image/encoded", "png", "webp"), ("txt", "caption", "text", "captions")
LABEL = ("cls", "label", "image/class/label")
POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


def record_samples(name: str, files: list[str], kind: str) -> Samples:
  """The `Samples` of record files; features are looked for under the names IMAGE, TEXT and LABEL.

  Args:
    name: name of the set, for messages.
    files: paths of the files.
    kind: "tfrecord" or "array_record".

  Raises:
    OSError: if a file cannot be read.
    ValueError: if there are no records.
  """
  shards, read, left_out = (_tfrecords if kind == "tfrecord" else _array_records)(name, files)
  if not len(shards):
    raise ValueError(f"expected records in {name}, got none{': ' * bool(left_out)}{', '.join(left_out[:3])}")

  def feature(row, names, kinds):
    try:
      found = tf.train.Example.FromString(read(row)).features.feature
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
      raise UnreadableImage(f"its record is damaged: {' '.join(str(error).split())[:100]}") from None
    except Exception as error:  # protobuf's own, of which each of its engines has another
      raise UnreadableImage(f"its record is no tf.train.Example ({type(error).__name__})") from None
    for key in (key for key in names if key in found):
      values = getattr(found[key], found[key].WhichOneof("kind") or "bytes_list").value
      if len(values) and isinstance(values[0], kinds):
        return values[0]
    raise UnreadableImage(f"it has no feature {' or '.join(map(repr, names[:2]))}")

  def text(row):
    found = feature(row, TEXT, bytes).decode("utf-8", "replace").strip()
    if not found:
      raise UnreadableImage("its caption is empty")
    return found

  def label(row):
    found = feature(row, LABEL, (bytes, int))
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else int(found)

  def place(row):
    first = int(np.searchsorted(shards, shards[row]))
    return f"{files[shards[row]]}: record {row - first}"

  own = official_rows(files, shards)
  return Samples(name, len(shards), lambda row: feature(row, IMAGE, bytes), text, label, place, files, own, left_out)


def _tfrecords(name, files):
  def make():
    found = [_places(path) for path in files]
    return {
      "shards": np.repeat(np.arange(len(files), dtype=np.int32), [len(starts) for starts, *_ in found]),
      "starts": np.concatenate([starts for starts, *_ in found]),
      "lengths": np.concatenate([lengths for _, lengths, _ in found]),
      "ends": np.array([end for *_, end in found], np.int64),
    }

  stamps = [stamp_of(path) for path in files]
  index = remembered([os.path.abspath(path) for path in files], ("tfrecord", 1), make)
  shards, starts, lengths = (index[key] for key in ("shards", "starts", "lengths"))

  def read(row):
    shard = shards[row]
    return read_bytes(files[shard], stamps[shard], int(starts[row]), int(lengths[row]))

  ends = zip(files, index["ends"].tolist(), stamps, strict=True)
  return shards, read, tuple(f"{path} (damaged at byte {end:,})" for path, end, stamp in ends if end < stamp[0])


def _places(path):
  """The starts and lengths of the records of a file, and the first byte that is none of theirs."""
  starts, lengths, at = [], [], 0
  with open_regular(path, buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    while at + HEADER + FOOTER <= size:
      header = os.pread(file.fileno(), HEADER, at)
      length, crc = struct.unpack("<QI", header)
      if crc != _masked_crc(header[:8]) or at + HEADER + length + FOOTER > size:
        break
      starts.append(at + HEADER)
      lengths.append(length)
      at += HEADER + length + FOOTER
  return np.array(starts, np.int64), np.array(lengths, np.int64), at


@functools.cache
def _table():
  table = []
  for value in range(256):
    for _ in range(8):
      value = value >> 1 ^ POLYNOMIAL * (value & 1)
    table.append(value)
  return table


def _masked_crc(content):
  """The CRC-32C of some bytes, as TFRecord files mask it."""
  crc, table = 0xFFFFFFFF, _table()
  for byte in content:
    crc = crc >> 8 ^ table[(crc ^ byte) & 255]
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _array_records(name, files):
  try:
    reader_of = importlib.import_module("array_record.python.array_record_module").ArrayRecordReader
  except ImportError:
    raise ValueError(f"expected the package array_record, which reads {name}: pip install array_record") from None
  readers, left_out = [], []
  for path in files:
    with open_regular(path):
      pass
    try:
      readers.append(reader_of(os.path.abspath(path), options="readahead_buffer_size:0"))
    except RuntimeError as error:
      readers.append(None)
      left_out.append(f"{path} ({' '.join(str(error).split())[:100]})")
  counts = [reader.num_records() if reader else 0 for reader in readers]
  ends = np.cumsum(counts).tolist()

  def read(row):
    shard = bisect.bisect_right(ends, row)
    return readers[shard].read([row - ends[shard] + counts[shard]])[0]

  return np.repeat(np.arange(len(files), dtype=np.int32), counts), read, tuple(left_out)
