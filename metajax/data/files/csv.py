"""A CSV file of labeled images as a table."""

import csv
import os
from collections.abc import Sequence

from metajax import checks
from metajax.data.files.opening import open_regular
from metajax.data.files.table import SPLITS, Table, make_table
from metajax.paths import is_url


def read_csv(path: str) -> Table:
  """The `Table` of a CSV file with the columns `path` and `label`, optionally `split` and `group`.

  Paths are relative to the file's folder.

  Raises:
    FileNotFoundError, PermissionError: if the file cannot be opened.
    ValueError: if it is not UTF-8 text, a column or an image occurs twice, or a line is malformed.
  """
  name, folder = repr(path), os.path.dirname(path)
  rows = _csv_rows(name, path)
  if not rows:
    raise ValueError(f"{name} names no images: expected a line for each below the header")
  has_splits = "split" in rows[0][1]
  first = {}
  for line, row in rows:
    _check_row(f"{name}, line {line}", row)
    before, label = first.setdefault(os.path.normpath(row["path"]), (line, row["label"]))
    if before != line:
      given = f"{row['path']!r} with the label {row['label']!r}, which has {label!r} in line {before}"
      raise ValueError(f"{name}, line {line}: expected each image once, got {given}")
  return make_table(
    name,
    labels=[row["label"] for _, row in rows],
    superclasses=[row.get("group", "") for _, row in rows],
    splits=[SPLITS[row["split"]] for _, row in rows] if has_splits else None,
    images=[os.path.join(folder, os.path.expanduser(row["path"])) for _, row in rows],
    places=[f"{row['path']!r} in line {line}" for line, row in rows],
  )


def check_header(where: str, header: Sequence[str], wanted: Sequence[str], others: Sequence[str]):
  """Raises ValueError if a column of `wanted` is missing, or a column of `wanted` or `others` occurs twice."""
  if not set(wanted) <= set(header):
    raise ValueError(f"{where}: expected the columns {' and '.join(wanted)}, got {', '.join(header) or 'nothing'}")
  if twice := checks.repeated(column for column in header if column in (*wanted, *others)):
    raise ValueError(f"{where}: expected each column once, got {twice!r} twice in {', '.join(header)}")


def _csv_rows(name, path):
  """(line number, {column: text}) of every line below the header."""
  try:
    with open_regular(path, "r", newline="", encoding="utf-8-sig") as file:
      reader = csv.DictReader(file, strict=True)
      header = [column.strip() for column in reader.fieldnames or ()]
      check_header(f"{name}, line 1", header, ("path", "label"), ("group", "split"))
      reader.fieldnames = header
      rows = []
      for row in reader:
        if None in row or None in row.values():
          given = len([value for value in row.values() if value is not None]) + len(row.get(None, [0])) - 1
          raise ValueError(f"{name}, line {reader.line_num}: expected {len(header)} fields, got {given}")
        rows.append((reader.line_num, {column: text.strip() for column, text in row.items()}))
      return rows
  except UnicodeDecodeError as error:
    raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
  except csv.Error as error:
    raise ValueError(f"{name}, line {reader.reader.line_num}: {error}") from None
  except OSError as error:
    raise type(error)(f"cannot read {name}: {error.strerror}") from None


def _check_row(where, row):
  for column in ("path", "label"):
    if not row[column]:
      raise ValueError(f"{where}: the {column} is empty")
  if is_url(row["path"]):
    raise ValueError(f"{where}: expected a path relative to the file, got {row['path']!r}")
  if row.get("split", "train") not in SPLITS:
    raise ValueError(f"{where}: got split {row['split']!r}, expected train, validation or test")
