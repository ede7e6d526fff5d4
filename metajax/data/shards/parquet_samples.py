"""The samples of Parquet files, as Hugging Face's datasets and img2dataset write them, given as paths."""

import functools
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from metajax import checks
from metajax.data.builtin.cache import cache_folder
from metajax.data.files.image_file import UnreadableImage
from metajax.data.files.opening import open_regular
from metajax.data.files.verification import Progress
from metajax.data.shards.record_samples import IMAGE, LABEL, TEXT
from metajax.data.shards.samples import Samples
from metajax.data.shards.tar_samples import MOST_OPEN, official_rows, stamp_of
from metajax.paths import writing

AT_ONCE = 256  # rows that are copied together
VERSION = 1  # of the copies
COPY = pa.schema(
  {"image": pa.large_binary(), "caption": pa.large_string(), "label": pa.large_string(), "row": pa.int64()}
)


class _Columns(NamedTuple):
  """The columns of a Parquet file that hold images, captions and classes, and the classes' names; None where none."""

  image: str
  caption: str | None
  label: str | None
  classes: list[str] | None


def parquet_samples(name: str, files: list[str], second: str) -> Samples:
  """The `Samples` of Parquet files, each with an image and `second`, "caption" or "label".

  Parquet is read in groups of rows only. So every file is copied once, as an uncompressed Arrow file in the cache, and
  samples are read from the copy at any place. Columns are looked for under the names IMAGE, TEXT and LABEL; otherwise
  the only column of the right type is taken: of bytes, of text, or of whole numbers.

  Args:
    name: name of the set, for messages.
    files: paths of the files.
    second: "caption" or "label".

  Raises:
    OSError: if a file cannot be read, or its copy cannot be written.
    ValueError: if a column is missing, or there are no rows.
  """
  copies, left_out = [], []
  progress = Progress(f"copied {{}} of {len(files):,} Parquet files of {name}", len(files))
  for path in files:
    with open_regular(path):
      pass
    try:
      copies.append(_copy_of(path, second))
    except (pa.ArrowException, OSError) as error:
      _check_damage(error)
      copies.append(None)
      left_out.append(f"{path} ({_said(error)})")
    progress.advance(1)
  counts = [_opened(copy).number if copy else 0 for copy in copies]
  for path, copy in zip(files, copies, strict=True):
    left_out += _gaps(path, copy) if copy else []
  if not sum(counts):
    raise ValueError(f"expected rows in {name}, got none{': ' * bool(left_out)}{', '.join(left_out[:3])}")
  shards = np.repeat(np.arange(len(files), dtype=np.int32), counts)
  firsts = np.cumsum([0, *counts])

  def value(row, column):
    shard = int(shards[row])
    return _opened(copies[shard]).value(column, row - int(firsts[shard]))

  def there(row, column, noun):
    found = value(row, column)
    if not found:
      raise UnreadableImage(f"it has no {noun}")
    return found

  return Samples(
    name,
    len(shards),
    image=lambda row: there(row, "image", "image"),
    text=lambda row: there(row, "caption", "caption"),
    label=lambda row: there(row, "label", "label"),
    place=lambda row: f"{files[shards[row]]}: row {value(row, 'row')}",
    files=files,
    own=official_rows(files, shards),
    left_out=tuple(left_out),
  )


class _Copy(NamedTuple):
  """An Arrow file in memory's address space: `value(column, row)`, and the number of its rows."""

  number: int
  value: Callable[[str, int], Any]


@functools.lru_cache(MOST_OPEN)
def _opened(path):
  table = pa.ipc.open_file(pa.memory_map(path)).read_all()
  chunks = {column: table.column(column).chunks for column in table.column_names}
  ends = np.cumsum([len(chunk) for chunk in chunks["row"]])

  def value(column, row):
    of = int(np.searchsorted(ends, row, side="right"))
    chunk = chunks[column][of]
    return chunk[row - int(ends[of]) + len(chunk)].as_py()

  return _Copy(table.num_rows, value)


def _copy_of(path, second):
  """The path of the copy of a Parquet file, which is made if it is not there or cannot be read."""
  key = repr((VERSION, os.path.abspath(path), stamp_of(path)))
  copy = cache_folder() / "parquet" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.arrow"
  with pa.parquet.ParquetFile(path) as file:
    columns = _columns(path, file.schema_arrow, second)
    try:
      _opened(str(copy))
    except (pa.ArrowException, OSError):
      copy.parent.mkdir(parents=True, exist_ok=True)
      with writing(copy) as sink, pa.ipc.new_file(sink, COPY) as writer:
        for group in range(file.num_row_groups):
          _copy_group(file, group, columns, writer)
  return str(copy)


def _copy_group(file, group, columns, writer):
  """Copies a group of rows, up to where it is damaged."""
  names = [name for name in columns[:3] if name is not None]
  row = sum(file.metadata.row_group(i).num_rows for i in range(group))
  batches = file.iter_batches(AT_ONCE, row_groups=[group], columns=names)
  while True:
    try:
      batch = next(batches)
    except StopIteration:
      return
    except (pa.ArrowException, OSError) as error:
      _check_damage(error)
      return  # its rows are told by the gap they leave
    writer.write_batch(_batch(batch, columns, row))
    row += len(batch)


def _batch(batch, columns, row):
  """Some rows as they are copied."""
  image = batch.column(columns.image)
  if pa.types.is_struct(image.type):
    image = image.flatten()[image.type.get_field_index("bytes")]
  nothing = [None] * len(batch)
  captions = nothing if columns.caption is None else [_first(x) for x in batch.column(columns.caption).to_pylist()]
  labels = nothing if columns.label is None else batch.column(columns.label).to_pylist()
  known = columns.classes or ()
  labels = [known[x] if isinstance(x, int) and 0 <= x < len(known) else x for x in labels]
  arrays = [
    image.cast(pa.large_binary()),
    pa.array(captions, pa.large_string()),
    pa.array([None if x is None else str(x) for x in labels], pa.large_string()),
    pa.array(range(row, row + len(batch)), pa.int64()),
  ]
  return pa.record_batch(arrays, schema=COPY)


def _first(captions):
  """A caption without blanks around it, the first of several; None for none."""
  found = captions[0] if isinstance(captions, list) and captions else captions
  return found.strip() if isinstance(found, str) else None


def _columns(path, schema, second):
  """The `_Columns` of a file."""
  image = _column(schema, IMAGE, _is_image)
  caption = _column(schema, TEXT, lambda kind: _is_text(kind) or (pa.types.is_list(kind) and _is_text(kind.value_type)))
  label = _column(schema, LABEL, lambda kind: pa.types.is_integer(kind) or _is_text(kind), pa.types.is_integer)
  found = {"image": image, "caption": caption, "label": label}
  for noun, names in (("image", IMAGE), (second, TEXT if second == "caption" else LABEL)):
    if found[noun] is None:
      given = ", ".join(f"{field.name} ({field.type})" for field in schema)
      raise ValueError(f"expected a column {' or '.join(map(repr, names[:2]))} of {noun}s in {path!r}, got {given}")
  return _Columns(image, caption, label, _class_names(schema, label))


def _is_image(kind):
  return _is_bytes(kind) or (pa.types.is_struct(kind) and any(of.name == "bytes" and _is_bytes(of.type) for of in kind))


def _is_bytes(kind):
  return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind):
  return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _column(schema, names, fits, fits_alone=None):
  """The first column of one of some names and of a fitting type, or the only one of a fitting type, or None."""
  for name in names:
    if name in schema.names and fits(schema.field(name).type):
      return name
  alone = [field.name for field in schema if (fits_alone or fits)(field.type)]
  return alone[0] if len(alone) == 1 else None


def _class_names(schema, label):
  """The names of the classes, where Hugging Face's description of the columns has them; None otherwise."""
  try:
    described = checks.parse_json("the features", (schema.metadata or {})[b"huggingface"].decode())
    names = described["info"]["features"][label]["names"]
  except (KeyError, TypeError, ValueError):
    return None
  return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _gaps(path, copy):
  """The rows of a Parquet file that its copy lacks, named."""
  opened = _opened(copy)
  with pa.parquet.ParquetFile(path) as file:
    number = file.metadata.num_rows
  if opened.number == number:
    return []
  rows = np.array([opened.value("row", i) for i in range(opened.number)], np.int64)
  ends = np.append(rows, number)
  starts = np.insert(rows + 1, 0, 0)
  return [
    f"{path}: rows {first:,} to {end - 1:,} (damaged)"
    for first, end in zip(starts.tolist(), ends.tolist(), strict=True)
    if end > first
  ]


def _check_damage(error):
  """Raises an error of the disk again, which has a number, other than one of the file's content."""
  if isinstance(error, OSError) and error.errno is not None:
    raise error


def _said(error):
  return json.dumps(" ".join(str(error).split())[:100])[1:-1]
