"""Lake's within-alphabet one-shot classification: the fixed runs, and runs drawn from any source with alphabets."""

import os
import re

import numpy as np

from metajax import checks
from metajax.data.files.image_file import UnreadableImage, read_image
from metajax.data.files.opening import checked_name
from metajax.data.sharding import check_place
from metajax.data.source import MOST_PIXELS, ImageDataset, check_source
from metajax.paths import AnyPath
from metajax.shards import host_slice
from metajax.types import Batches, Episode, Examples

RUN = re.compile(r"run(\d+)")


def one_shot_runs(folder: AnyPath, *, size: int = 28) -> Batches:
  """The fixed runs of Omniglot's one-shot classification (Lake et al. 2015), from the unzipped folder.

  Each run has 20 characters of one alphabet, each drawn once by one person (support) and once by another (query). Each
  line of `class_labels.txt` pairs a test image with its training image:
  `run01/test/item01.png run01/training/class05.png`.

  Args:
    folder: folder with `run01`, `run02`, ..., each with a `class_labels.txt`.
    size: side of the resized images in pixels, as for `load`; ink is 1.

  Returns:
    `batches(start=0, shard=(0, 1))`: one batch of all runs, `Episode`s of support inputs uint8
    `[runs, ways, size, size, 1]`, and likewise the queries, with one-hot labels `[runs, ways, ways]`.

  Raises:
    FileNotFoundError: if the folder, its runs, or an image named in a line is missing.
    ValueError: if a line is malformed, the lines do not pair training and test images one to one, runs have different
      numbers of ways, or an image cannot be read.
  """
  folder = checked_name(folder)
  checks.count("size", size, 1, MOST_PIXELS)
  if not os.path.isdir(folder):
    raise FileNotFoundError(f"expected a folder of one-shot runs, got {folder!r}")
  names = sorted((name for name in os.listdir(folder) if RUN.fullmatch(name)), key=lambda name: int(name[3:]))
  if not names:
    raise FileNotFoundError(f"expected run01, run02, ... in {folder!r}, got {sorted(os.listdir(folder))[:5]}")
  runs = [_run(folder, name, size) for name in names]
  ways = {len(run.support.labels) for run in runs}
  if len(ways) > 1:
    raise ValueError(f"expected runs of one number of ways in {folder!r}, got {sorted(ways)}")
  return _once(runs)


def one_shot_tasks(source: ImageDataset, *, ways: int = 20, runs: int = 20, seed: int = 0) -> Batches:
  """Runs of the same protocol, drawn from any source with alphabets: `ways` characters of one alphabet, two styles.

  Each run draws an alphabet with at least `ways` characters, its characters, and two `styles` (people, typefaces) that
  all of these characters have: one for the support set, one for the query set. If a source has no styles, two different
  images of each character are drawn instead.

  Args:
    source: an `ImageDataset` with superclasses.
    ways: characters per run, at least 2.
    runs: number of runs, at least 1; run `i` is a pure function of (seed, `i`).
    seed: any integer of at least 0.

  Returns:
    `batches`, as for `one_shot_runs`.

  Raises:
    ValueError: if a number is too small, no alphabet has enough characters, or no two styles share them.
  """
  check_source(source)
  for name, value, least in (("ways", ways, 2), ("runs", runs, 1), ("seed", seed, 0)):
    checks.count(name, value, least)
  superclasses = np.asarray(source.superclasses)
  sizes = {name: int((superclasses == name).sum()) for name in sorted(set(source.superclasses) - {""})}
  large = [name for name, size in sizes.items() if size >= ways]
  if not large:
    raise ValueError(
      f"expected an alphabet of at least {ways} characters, got {max(sizes.values(), default=0)} at most"
    )
  return _once([_drawn(source, superclasses, large, ways, np.random.default_rng([seed, i])) for i in range(runs)])


def _run(folder, name, size) -> Episode:
  """One run of the folder, with training and test images each in sorted order."""
  path = os.path.join(folder, name, "class_labels.txt")
  if not os.path.isfile(path):
    raise FileNotFoundError(f"expected a file {path!r}")
  try:
    with open(path, encoding="utf-8") as file:
      lines = [line.split() for line in file if line.strip()]
  except UnicodeDecodeError as error:
    raise ValueError(f"{path!r} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
  for line in lines:
    if len(line) != 2:
      raise ValueError(f"expected lines of a test and a training image in {path!r}, got {' '.join(line)!r}")
  tests, trainings = ([line[i] for line in lines] for i in (0, 1))
  ways = sorted(set(trainings))
  if len(lines) < 2 or len(set(tests)) < len(tests) or len(ways) < len(trainings):
    raise ValueError(
      f"expected one training image per test image in {path!r}, got {len(set(tests))} test and "
      f"{len(ways)} training images in {len(lines)} lines"
    )
  labels = np.eye(len(ways), dtype=np.float32)
  order = sorted(range(len(lines)), key=lambda i: tests[i])

  def read(names):
    return np.stack([_ink(folder, name, size) for name in names])

  query = Examples(read([tests[i] for i in order]), labels[[ways.index(trainings[i]) for i in order]])
  return Episode(Examples(read(ways), labels), query)


def _ink(folder, name, size):
  path = os.path.join(folder, name)
  if not os.path.isfile(path):
    raise FileNotFoundError(f"expected an image {path!r}")
  try:
    return 255 - read_image(path, size=size, channels=1)
  except UnreadableImage as error:
    raise ValueError(f"expected an image in {path!r}, got {error}") from None


def _drawn(source, superclasses, large, ways, random) -> Episode:
  alphabet = large[random.integers(len(large))]
  classes = random.permutation(np.flatnonzero(superclasses == alphabet))[:ways]
  rows = {k: np.flatnonzero(source.labels == k) for k in classes}
  if any(source.styles):
    by = [{source.styles[row]: row for row in random.permutation(rows[k])} for k in classes]
    common = sorted(set.intersection(*(set(of) for of in by)))
    if len(common) < 2:
      raise ValueError(f"expected two styles with {ways} characters of {alphabet!r}, got {len(common)}")
    first, second = (common[i] for i in random.permutation(len(common))[:2])
    chosen = np.array([(of[first], of[second]) for of in by])
  else:
    if least := [source.classes[k] for k in classes if len(rows[k]) < 2]:
      raise ValueError(f"expected two images of each character, got one of {least[0]!r}")
    chosen = np.stack([random.permutation(rows[k])[:2] for k in classes])
  labels = np.eye(ways, dtype=np.float32)

  def images(rows):
    return np.asarray(source.images[rows])

  return Episode(Examples(images(chosen[:, 0]), labels), Examples(images(chosen[:, 1]), labels))


def _once(runs) -> Batches:
  """All runs as one batch."""

  def stack(part):
    return Examples(*(np.stack(arrays) for arrays in zip(*(getattr(run, part) for run in runs), strict=True)))

  whole = Episode(stack("support"), stack("query"))

  def batches(start=0, shard=(0, 1)):
    check_place(start, shard)
    if start:
      raise ValueError(f"expected a start of 0, of one batch of {len(runs)} runs, got {start}")
    own = host_slice(len(runs), shard)
    yield Episode(*(Examples(part.inputs[own], part.labels[own]) for part in whole))

  return batches
