"""Parquet files given as paths: columns of bytes and captions, read at any place; damage does not stop a run."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tar_shards import encoded
from test_records import numbers_of

from metajax import data
from metajax.data.files import lazy_images
from metajax.data.shards import parquet_samples

CLASSES = ["cat", "dog", "eel"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache" / "parquet"


def hugging_face(numbers, captions=None):
  """A table as `datasets` writes images, captions and classes."""
  features = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
  images = [{"bytes": encoded(n), "path": f"{n}.png"} for n in numbers]
  table = pa.table({
    "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    "label": pa.array([n % 3 for n in numbers], pa.int64()),
    "caption": captions or [[f" caption {n}", "another"] for n in numbers],
  })  # fmt: skip
  return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path, table, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(table, path, **{"row_group_size": 5, **options})
  return path


def test_the_files_of_datasets_are_pairs_and_labeled_images(tmp_path):
  for shard in range(3):
    write(tmp_path / "photos" / f"train-{shard:05}-of-00003.parquet", hugging_face(range(14 * shard, 14 * shard + 14)))
  pattern = f"{tmp_path}/photos/train-*.parquet"
  source = data.load_captioned(pattern, "official/train", size=8)
  assert numbers_of(source.images[:]) == list(range(42))
  assert source.texts(np.array([41, 0])) == ["caption 41", "caption 0"]
  labeled = data.load(pattern, "official/train", size=8)
  assert labeled.classes == tuple(CLASSES) and labeled.labels.tolist() == [n % 3 for n in range(42)]


@pytest.mark.parametrize("dictionary", [True, False])
def test_columns_of_bytes_of_text_and_of_numbers_are_found_by_name_or_type(tmp_path, dictionary):
  table = {"key": ["a"] * 9, "jpg": [encoded(n) for n in range(9)], "txt": [f"a {n}" for n in range(9)]}
  write(tmp_path / "a.parquet", pa.table(table | {"cls": ["b", "a", "c"] * 3}), use_dictionary=dictionary)
  assert data.load_captioned(f"{tmp_path}/a.parquet", "official/all", size=8).texts(np.arange(2)) == ["a 0", "a 1"]
  assert data.load(f"{tmp_path}/a.parquet", "official/all", size=8).labels.tolist() == [1, 0, 2] * 3
  table = {"img": [encoded(n) for n in range(9)], "kind": [n % 3 for n in range(9)], "words": ["a"] * 9}
  write(tmp_path / "b.parquet", pa.table(table))
  assert numbers_of(data.load(f"{tmp_path}/b.parquet", "official/all", size=8).images[:]) == list(range(9))
  assert data.load_captioned(f"{tmp_path}/b.parquet", "official/all", size=8).texts(np.arange(1)) == ["a"]
  write(tmp_path / "c.parquet", pa.table({"img": table["img"], "b": ["a"] * 9, "c": ["a"] * 9}))
  with pytest.raises(ValueError, match=r"expected a column 'txt' or 'caption' of captions in .*c.parquet', got img"):
    data.load_captioned(f"{tmp_path}/c.parquet", size=8)
  with pytest.raises(ValueError, match=r"'cls' or 'label' of labels .*, got img \(binary\), b \(string\), c"):
    data.load(f"{tmp_path}/c.parquet", size=8)


@pytest.mark.filterwarnings("ignore:.*could not be read")
def test_a_row_without_an_image_or_a_caption_is_replaced_by_the_next(tmp_path):
  images = [encoded(0), None, encoded(2), b"no image", encoded(4), encoded(5)]
  captions = ["a", "a", "a", "a", " ", None]
  write(tmp_path / "a.parquet", pa.table({"image": images, "caption": captions}))
  source = data.load_captioned(f"{tmp_path}/a.parquet", "official/all", size=8)
  with pytest.warns(UserWarning, match="row 3 cannot be read .not an image"):
    assert numbers_of(source.images[:]) == [0, 2, 2, 0, 0, 0]


def test_a_damaged_group_of_rows_is_left_out_and_named(tmp_path):
  path = write(tmp_path / "a.parquet", hugging_face(range(15)), compression="gzip")
  write(tmp_path / "b.parquet", hugging_face(range(15, 20)))
  (tmp_path / "c.parquet").write_bytes(path.read_bytes()[:-9])
  column = pq.ParquetFile(path).metadata.row_group(1).column(0)
  content, start = bytearray(path.read_bytes()), column.data_page_offset
  content[start : start + column.total_compressed_size // 2] = bytes(column.total_compressed_size // 2)
  path.write_bytes(content)
  source = data.load_captioned(f"{tmp_path}/*.parquet", "official/all", size=8)
  assert numbers_of(source.images[:]) == [*range(5), *range(10, 20)]
  (whole, rows) = source.unreadable
  assert rows == f"{path}: rows 5 to 9 (damaged)" and whole.startswith(f"{tmp_path}/c.parquet (")
  with pytest.raises(ValueError, match=r"expected rows in '.*c.parquet', got none: .*c.parquet \("):
    data.load_captioned(f"{tmp_path}/c.parquet", size=8)


def test_a_file_is_copied_once_and_anew_if_it_or_its_copy_changes(tmp_path, cache, monkeypatch):
  path, copied = write(tmp_path / "a.parquet", hugging_face(range(15))), []
  made = parquet_samples._copy_group
  monkeypatch.setattr(parquet_samples, "_copy_group", lambda *a: copied.append(a[1]) or made(*a))
  images = lambda: numbers_of(data.load(str(path), "official/all", size=8).images[:])
  assert images() == images() == list(range(15)) and copied == [0, 1, 2]
  (copy,) = cache.iterdir()
  copy.write_bytes(copy.read_bytes()[:-99])
  parquet_samples._opened.cache_clear()
  assert images() == list(range(15)) and copied == [0, 1, 2] * 2 and len(list(cache.iterdir())) == 1
  write(path, hugging_face(range(30, 40)))
  assert images() == list(range(30, 40))


def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch):
  path = write(tmp_path / "a.parquet", hugging_face(range(5)))

  def fails(*_, **__):
    raise OSError(5, "Input/output error", str(path))

  monkeypatch.setattr(pq.ParquetFile, "iter_batches", fails)
  with pytest.raises(OSError, match="Input/output error"):
    data.load(str(path), size=8)


def test_batches_of_crops_of_parquet_files_are_the_same_from_any_start_and_on_any_hosts(tmp_path, monkeypatch):
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  write(tmp_path / "a.parquet", hugging_face(range(20)))
  source = data.load(f"{tmp_path}/a.parquet", "official/all", size=8, originals=True)
  stream = data.train_batches(source, batch_size=8, crop=data.RandomCrop(8))
  first = [batch for batch, _ in zip(stream(), range(3), strict=False)]
  np.testing.assert_array_equal(next(stream(start=2)).inputs, first[2].inputs)
  halves = [next(stream(start=1, shard=(host, 2))) for host in range(2)]
  np.testing.assert_array_equal(np.concatenate([half.inputs for half in halves]), first[1].inputs)
