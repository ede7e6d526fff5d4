"""The captions of user-supplied images, from a CSV table or a JSON Lines file."""

import csv
import os

from metajax import checks
from metajax.data.files.csv import check_header
from metajax.data.files.opening import is_file, is_folder, open_regular
from metajax.data.files.table import SPLITS, Table, make_table
from metajax.paths import is_url

FILES = ("captions.csv", "captions.jsonl")


def read_captions(path: str) -> tuple[Table, dict[str, tuple[str, ...]]]:
  """The `Table` of user-supplied captioned images, each a class named by its path; and `{path: captions}`.

  Raises:
    FileNotFoundError, PermissionError: if a file cannot be opened.
    ValueError: if the table of captions is missing, or a line is malformed.
  """
  if is_folder(path):
    there = [os.path.join(path, name) for name in FILES if is_file(os.path.join(path, name))]
    if len(there) != 1:
      given = " and ".join(map(os.path.basename, there)) or "neither"
      raise ValueError(f"expected {' or '.join(FILES)} in the folder {path!r}, got {given}")
    path = there[0]
  captions, splits = {}, {}
  for line, image, texts, split in (_lines_of_csv if path.endswith(".csv") else _lines_of_jsonl)(path):
    where = f"{path!r}, line {line}"
    if not image or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
      raise ValueError(f"{where}: expected a path and a caption, got {image!r} and {texts!r}")
    if split is not None and not (isinstance(split, str) and split in SPLITS):
      raise ValueError(f"{where}: got split {split!r}, expected train, validation or test")
    if is_url(image):
      raise ValueError(f"{where}: expected a path relative to the file, got {image!r}")
    image = os.path.normpath(image)  # one class per image, however its path is written
    if splits.setdefault(image, split) != split:
      raise ValueError(f"{where}: got split {split!r} for {image!r}, which is in {splits[image]!r} above")
    captions.setdefault(image, []).extend(text.strip() for text in texts)
  if not captions:
    raise ValueError(f"{path!r} names no images")
  if None in splits.values() and any(splits.values()):
    raise ValueError(f"{path!r}: expected a split for every image or for none")
  images, folder = list(captions), os.path.dirname(path)
  table = make_table(
    repr(path),
    labels=images,
    superclasses=[""] * len(images),
    splits=None if None in splits.values() else [SPLITS[splits[image]] for image in images],
    images=[os.path.join(folder, os.path.expanduser(image)) for image in images],
    places=[*map(repr, images)],
    order=images,
  )
  return table, {image: tuple(texts) for image, texts in captions.items()}


def _lines_of_csv(path):
  """Yields (line number, path, captions, split or None) for every line below the header."""
  try:
    with open_regular(path, "r", newline="", encoding="utf-8-sig") as file:
      reader = csv.DictReader(file, strict=True)
      header = [column.strip() for column in reader.fieldnames or ()]
      check_header(repr(path), header, ("path", "caption"), ("split",))
      reader.fieldnames = header
      for row in reader:
        if None in row or None in row.values():
          raise ValueError(f"{path!r}, line {reader.line_num}: expected {len(header)} fields, got others")
        yield reader.line_num, row["path"].strip(), [row["caption"]], row["split"].strip() if "split" in row else None
  except UnicodeDecodeError as error:
    raise ValueError(f"{path!r} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
  except csv.Error as error:
    raise ValueError(f"{path!r}, line {reader.line_num}: {error}") from None


def _lines_of_jsonl(path):
  """The same as `_lines_of_csv`, for a file with one JSON object per line."""
  try:
    with open_regular(path, "r", encoding="utf-8-sig") as file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        row = checks.parse_json(f"{path}, line {number}", line)
        if not isinstance(row.get("path"), str) or not {"caption", "captions"} & set(row):
          raise ValueError(f'{path!r}, line {number}: expected an object with "path" and "caption" or "captions"')
        texts = row["captions"] if "captions" in row else [row["caption"]]
        yield number, row["path"], texts if isinstance(texts, list) else [texts], row.get("split")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path!r} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
