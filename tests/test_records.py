"""TFRecord and ArrayRecord files given as paths: read at any place; a damaged record does not stop a run."""

import numpy as np
import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter
from tar_shards import encoded

from metajax import data


def example(number, image="jpg", text="txt", label="cls", content=None):
  bytes_of = lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  features = {
    image: bytes_of(encoded(number) if content is None else content),
    text: bytes_of(f"caption {number}".encode()),
    label: tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 7])),
  }
  return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path, records):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".array_record":
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
      writer.write(record)
    writer.close()
  else:
    with tf.io.TFRecordWriter(str(path)) as writer:
      for record in records:
        writer.write(record)
  return path


def numbers_of(images):
  return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
@pytest.mark.parametrize("names", [("jpg", "txt", "cls"), ("image", "caption", "label")])
def test_records_are_pairs_and_labeled_images(tmp_path, kind, names):
  for shard in range(3):
    write(tmp_path / f"{shard}.{kind}", [example(n, *names) for n in range(14 * shard, 14 * shard + 14)])
  pattern = f"{tmp_path}/{{0..2}}.{kind}"
  source = data.load_captioned(pattern, "official/all", size=8)
  assert numbers_of(source.images[:]) == list(range(42))
  assert source.texts(np.array([41, 0])) == ["caption 41", "caption 0"]
  labeled = data.load(pattern, "official/all", size=8)
  assert labeled.classes == tuple("0123456") and labeled.labels.tolist() == [n % 7 for n in range(42)]


@pytest.mark.filterwarnings("ignore:.*could not be read")
@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_a_bad_record_is_replaced_by_the_next(tmp_path, kind):
  records = [example(0), b"no example", example(2), example(3, content=b"no image"), example(4, text="other")]
  write(tmp_path / f"a.{kind}", records)
  source = data.load_captioned(f"{tmp_path}/a.{kind}", "official/all", size=8)
  with pytest.warns(UserWarning, match="record 3 cannot be read .not an image"):
    assert numbers_of(source.images[:]) == [0, 2, 2, 0, 0]
  assert source.shown(np.arange(5)).tolist() == [0, 2, 2, 0, 0]


def test_a_tfrecord_file_is_read_up_to_where_it_is_damaged(tmp_path):
  path = write(tmp_path / "a.tfrecord", [example(n) for n in range(4)])
  content, length = bytearray(path.read_bytes()), len(example(0)) + 16
  last = sum(len(example(n)) + 16 for n in range(3))
  path.write_bytes(content[:-5])
  source = data.load_captioned(str(path), "official/all", size=8)
  assert len(source.images) == 3 and source.unreadable == (f"{path} (damaged at byte {last:,})",)
  content[length + 1] ^= 1  # the second record's length, which has a checksum
  path.write_bytes(content)
  assert len(data.load_captioned(str(path), "official/all", size=8).images) == 1
  path.write_bytes(b"no record " * 9)
  with pytest.raises(ValueError, match=r"expected records in '.*a.tfrecord', got none: .* \(damaged at byte 0\)"):
    data.load_captioned(str(path), "official/all", size=8)
