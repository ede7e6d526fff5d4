"""Labels for many images, streamed to a CSV or JSONL file: constant memory, and an interrupted run is continued."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax import checks, paths
from metajax.data.files.verification import Progress
from metajax.export import Prediction
from metajax.inference.images import read_ahead, unreadable_images
from metajax.inference.load import ImageClassifier

FIXED = ("image", "label", "probability", "margin", "unlike", "nearest", "error")  # columns before the probabilities


class Labeled(NamedTuple):
  """One row of a file of labels.

  Attributes:
    image: Path of the image.
    label: Predicted class; "" if its probability is below the threshold, or the image cannot be read.
    probability: Largest probability.
    margin: Its lead over the second one.
    unlike: Whether the image is unlike all classes; None if unknown.
    nearest: Name of the nearest support image.
    error: Why the image cannot be read, or "".
    probabilities: Probability of each class.
  """

  image: str
  label: str
  probability: float
  margin: float
  unlike: bool | None
  nearest: str
  error: str
  probabilities: dict[str, float]


def label_images(
  classifier: ImageClassifier,
  images: Sequence[str],
  output: Path | str,
  *,
  threshold: float = 0.0,
  skip_unreadable: bool = False,
) -> Path:
  """Labels images, and writes a row each to a `.csv` or `.jsonl` file, in the order given.

  The file appears when it is complete. After an interruption, the same call continues with the next 256 images.

  Args:
    classifier: A fitted classifier.
    images: Paths of image files.
    output: Path of the file, which ends in `.csv` or `.jsonl`.
    threshold: Images whose largest probability is lower get no label, 0 to 1.
    skip_unreadable: Give images that cannot be read a row without a label, instead of raising.

  Returns:
    The path.

  Raises:
    ValueError: If an image cannot be read, `output` has another ending, or `threshold` is out of range.
    OSError: If the file cannot be written.
  """
  checks.in_range("threshold", threshold, 0, 1)
  output = Path(output)
  check_output(output)
  write = _csv_line if output.suffix == ".csv" else _json_line
  identity = _identity(classifier, images, output.suffix, threshold, skip_unreadable)
  part, place = (output.with_name(f"{paths.SCRATCH}-{output.name}{end}") for end in ("", ".json"))
  done, size = _progress_of(part, place, identity)
  if done:
    print(f"continuing after {done:,} of {len(images):,} images")
  said = Progress(f"labeled {{}} of {len(images):,} images", len(images))
  said.advance(done)
  with paths.naming(output):
    output.parent.mkdir(parents=True, exist_ok=True)
    with part.open("r+b" if done else "wb") as file:
      file.truncate(size)
      file.seek(size)
      if not done and output.suffix == ".csv":
        file.write(_encoded(_row([*FIXED, *(f"p({name})" for name in classifier.classes)])))
      for batch, rows in _labeled(classifier, images, done, threshold, skip_unreadable):
        file.write(b"".join(_encoded(write(row)) for row in rows))
        file.flush()
        os.fsync(file.fileno())
        done += len(batch)
        paths.write_whole(place, json.dumps({"identity": identity, "done": done, "size": file.tell()}).encode())
        said.advance(len(batch))
    os.replace(part, output)
    place.unlink(missing_ok=True)
  return output


def check_output(output: Path):
  """Raises a ValueError for a file that is neither `.csv` nor `.jsonl`."""
  if output.suffix not in (".csv", ".jsonl"):
    raise ValueError(f"expected an output that ends in .csv or .jsonl, got {str(output)!r}")


def read_labels(path: Path) -> Iterator[Labeled]:
  """Yields the rows of a file that `label_images` wrote, one by one."""
  with path.open(encoding="utf-8", newline="") as file:
    if path.suffix == ".jsonl":
      yield from (Labeled(**json.loads(line)) for line in file)
      return
    csv.field_size_limit(2**24)
    reader = csv.reader(file)
    classes = [name[2:-1] for name in next(reader)[len(FIXED) :]]
    for image, label, probability, margin, unlike, nearest, error, *each in reader:
      known = {"": None, "0": False, "1": True}[unlike]
      numbers = [float(x) if x else float("nan") for x in (probability, margin, *each)]
      probabilities = {} if error else dict(zip(classes, numbers[2:], strict=True))
      yield Labeled(image, label, *numbers[:2], known, nearest, error, probabilities)


def _labeled(
  classifier: ImageClassifier, images: Sequence[str], start: int, threshold: float, skip_unreadable: bool
) -> Iterator[tuple[Sequence[str], list[Labeled]]]:
  """Yields batches of images with their rows; the next batch is decoded while one is classified."""
  for batch, found, unreadable in read_ahead(images[start:], classifier.form, classifier.invert):
    if unreadable and not skip_unreadable:
      raise ValueError(f"{unreadable_images(list(batch), unreadable)}; --skip-unreadable leaves them without a label")
    rows = {row: _unreadable(batch[row], reason) for row, reason in unreadable.items()}
    if good := [row for row in range(len(batch)) if row not in unreadable]:
      predicted = classifier.classifier.predict(found[good])
      rows |= {row: _labeled_row(batch[row], predicted, i, classifier, threshold) for i, row in enumerate(good)}
    yield batch, [rows[row] for row in range(len(batch))]


def _labeled_row(image: str, predicted: Prediction, i: int, classifier: ImageClassifier, threshold: float) -> Labeled:
  each = predicted.probabilities[i]
  label = predicted.labels[i] if each.max() >= threshold else ""
  unlike = None if predicted.unlike is None else bool(predicted.unlike[i])
  nearest = classifier.names[predicted.nearest[i]]
  probabilities = {name: round(float(p), 6) for name, p in zip(classifier.classes, each, strict=True)}
  return Labeled(
    image, label, round(float(each.max()), 6), round(float(predicted.margin[i]), 6), unlike, nearest, "", probabilities
  )


def _unreadable(image: str, reason: str) -> Labeled:
  return Labeled(image, "", float("nan"), float("nan"), None, "", reason, {})


def _csv_line(row: Labeled) -> str:
  unlike = "" if row.unlike is None else str(int(row.unlike))
  numbers = ["" if np.isnan(x) else f"{x:.6f}" for x in (row.probability, row.margin)]
  each = [f"{p:.6f}" for p in row.probabilities.values()]
  return _row([row.image, row.label, *numbers, unlike, row.nearest, row.error, *each])


def _json_line(row: Labeled) -> str:
  numbers = {name: None if np.isnan(getattr(row, name)) else getattr(row, name) for name in ("probability", "margin")}
  return json.dumps({**row._asdict(), **numbers}, ensure_ascii=False) + "\n"


def _row(cells: Sequence[str]) -> str:
  with io.StringIO(newline="") as text:
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _encoded(text: str) -> bytes:
  return text.encode("utf-8", "backslashreplace")


def _identity(classifier: ImageClassifier, images: Sequence[str], *options: Any) -> str:
  """A digest of everything that the file depends on."""
  digest = hashlib.sha256()
  config = classifier.classifier.model.config
  digest.update(json.dumps([config["sha256"], classifier.invert, *options], sort_keys=True).encode())
  digest.update(repr((classifier.classes, classifier.names)).encode("utf-8", "backslashreplace"))
  for array in (*classifier.classifier.inputs, classifier.classifier.labels):
    digest.update(np.ascontiguousarray(array).tobytes())
  for image in images:
    digest.update(image.encode("utf-8", "surrogateescape") + b"\0")
  return digest.hexdigest()


def _progress_of(part: Path, place: Path, identity: str) -> tuple[int, int]:
  """The number of images and bytes that an interrupted call with the same arguments has written; else zeros."""
  try:
    said = paths.read_json(place)
    done, size = said["done"], said["size"]
    if said["identity"] == identity and type(done) is type(size) is int and part.stat().st_size >= size > 0:
      return done, size
  except (OSError, ValueError, KeyError):
    pass
  return 0, 0
